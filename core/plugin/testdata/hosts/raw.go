package main

import "strconv"

//go:wasmimport nexus log
func rawLog(ptr, n uint32)

//go:wasmimport nexus label_get
func rawLabelGet(name, nameLen, out, outCap uint32) int32

//go:wasmimport nexus label_set
func rawLabelSet(name, nameLen, value, valueLen uint32)

//go:wasmimport nexus call_get
func rawCallGet(id, name, nameLen, out, outCap uint32) int32

//go:wasmimport nexus model_set
func rawModelSet(ptr, n uint32)

//go:wasmimport nexus pool_set
func rawPoolSet(ptr, n uint32)

//go:wasmimport nexus kv_get
func rawKVGet(key, keyLen uint32) int64

//go:wasmimport nexus kv_incr_if
func rawKVIncrIf(key, keyLen uint32, amount, limit, ttlMillis int64) int64

//go:wasmimport nexus vault_put
func rawVaultPut(value, valueLen, token, tokenLen uint32)

//go:wasmimport nexus metric
func rawMetric(name, nameLen uint32, amount float64)

//go:wasmimport nexus random
func rawRandom(ptr, n uint32)

//go:wasmimport nexus http_call
func rawHTTPCall(ptr, n, out, outCap uint32) int32

// raw calls a host function with numbers of the order's choice.
func raw(a []string) string {
	n := [5]uint32{}
	for i := range n {
		n[i] = uint32(number(a[i+1]))
	}
	got := int64(0)
	switch a[0] {
	case "raw log":
		rawLog(n[0], n[1])
	case "raw label_get":
		got = int64(rawLabelGet(n[0], n[1], n[2], n[3]))
	case "raw label_set":
		rawLabelSet(n[0], n[1], n[2], n[3])
	case "raw call_get":
		got = int64(rawCallGet(n[0], n[1], n[2], n[3], n[4]))
	case "raw model_set":
		rawModelSet(n[0], n[1])
	case "raw pool_set":
		rawPoolSet(n[0], n[1])
	case "raw kv_get":
		got = rawKVGet(n[0], n[1])
	case "raw kv_incr_if":
		got = rawKVIncrIf(n[0], n[1], 1, 1, 1000)
	case "raw vault_put":
		rawVaultPut(n[0], n[1], n[2], n[3])
	case "raw metric":
		rawMetric(n[0], n[1], 1)
	case "raw random":
		rawRandom(n[0], n[1])
	case "raw http_call":
		got = int64(rawHTTPCall(n[0], n[1], n[2], n[3]))
	default:
		panic("an order that is none: " + a[0])
	}
	return strconv.FormatInt(got, 10)
}
