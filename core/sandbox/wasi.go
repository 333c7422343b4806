package sandbox

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

const wasiModule = "wasi_snapshot_preview1"

// Error numbers of WASI preview 1.
const (
	errnoOK    = 0
	errnoBadf  = 8
	errnoFault = 21
	errnoInval = 28
	errnoNosys = 52
)

// wasiFuncs are the functions that do something; every other one answers that it does not exist (ENOSYS).
var wasiFuncs = map[string]func(*Guest, []uint64) uint32{
	"args_sizes_get":      wasiNone,
	"args_get":            wasiEmpty,
	"environ_sizes_get":   wasiNone,
	"environ_get":         wasiEmpty,
	"clock_time_get":      wasiClock,
	"clock_res_get":       wasiClockRes,
	"random_get":          wasiRandom,
	"fd_write":            wasiWrite,
	"fd_fdstat_get":       wasiFdstat,
	"fd_close":            wasiBadf,
	"fd_read":             wasiBadf,
	"fd_seek":             wasiBadf,
	"fd_prestat_get":      wasiBadf,
	"fd_fdstat_set_flags": wasiEmpty,
	"poll_oneoff":         wasiPoll,
	"sched_yield":         wasiEmpty,
}

// wasiFunc is the stub for an import, with whatever signature the guest believes it has; one that does
// something checks that it has the stack for it.
func wasiFunc(i Import) HostFunc {
	h := HostFunc{Module: i.Module, Name: i.Name, Signature: i.Signature}
	f, known := wasiFuncs[i.Name]
	answers := len(i.Results) == 1 && i.Results[0] == I32
	switch {
	case i.Name == "proc_exit" && len(i.Params) == 1:
		h.Func = func(g *Guest, stack []uint64) { g.stop(Exit, exitError(stack[0])) }
	case known && answers && i.Signature.equal(wasiSignatures[i.Name]):
		h.Func = func(g *Guest, stack []uint64) { stack[0] = uint64(f(g, stack)) }
	default:
		h.Func = func(_ *Guest, stack []uint64) {
			for n := range slots(i.Results) {
				stack[n] = 0
			}
			if answers {
				stack[0] = errnoNosys
			}
		}
	}
	return h
}

func wasi(params ...Type) Signature { return Signature{params, []Type{I32}} }

var wasiSignatures = map[string]Signature{
	"args_sizes_get":      wasi(I32, I32),
	"args_get":            wasi(I32, I32),
	"environ_sizes_get":   wasi(I32, I32),
	"environ_get":         wasi(I32, I32),
	"clock_time_get":      wasi(I32, I64, I32),
	"clock_res_get":       wasi(I32, I32),
	"random_get":          wasi(I32, I32),
	"fd_write":            wasi(I32, I32, I32, I32),
	"fd_fdstat_get":       wasi(I32, I32),
	"fd_close":            wasi(I32),
	"fd_read":             wasi(I32, I32, I32, I32),
	"fd_seek":             wasi(I32, I64, I32, I32),
	"fd_prestat_get":      wasi(I32, I32),
	"fd_fdstat_set_flags": wasi(I32, I32),
	"poll_oneoff":         wasi(I32, I32, I32, I32),
	"sched_yield":         wasi(),
}

func wasiEmpty(*Guest, []uint64) uint32 { return errnoOK }
func wasiBadf(*Guest, []uint64) uint32  { return errnoBadf }

// wasiNone says that there are no arguments, or variables, and that they take no bytes.
func wasiNone(g *Guest, stack []uint64) uint32 {
	var zero [4]byte
	if !g.Write(uint32(stack[0]), zero[:]) || !g.Write(uint32(stack[1]), zero[:]) {
		return errnoFault
	}
	return errnoOK
}

func (g *Guest) writeUint64(ptr uint32, v uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if !g.Write(ptr, b[:]) {
		return errnoFault
	}
	return errnoOK
}

// A wasiState is what the stubs keep of one guest.
type wasiState struct {
	readings uint64 // nanoseconds that the clock that is not real has counted
	random   *rand.ChaCha8
}

// The clock that is not real starts here and goes on by a millisecond each time it is read.
var clockStart = uint64(time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())

var processStart = time.Now()

func wasiClock(g *Guest, stack []uint64) uint32 {
	id, ptr := uint32(stack[0]), uint32(stack[2])
	if id > 1 {
		return errnoInval
	}
	if !g.pool.options.Clock {
		g.wasi.readings += uint64(time.Millisecond)
		return g.writeUint64(ptr, clockStart+g.wasi.readings)
	}
	if id == 0 {
		return g.writeUint64(ptr, uint64(time.Now().UnixNano()))
	}
	return g.writeUint64(ptr, uint64(time.Since(processStart)))
}

func wasiClockRes(g *Guest, stack []uint64) uint32 {
	return g.writeUint64(uint32(stack[1]), uint64(time.Microsecond))
}

const maxRandom = 64 << 10 // bytes a call of random_get

func wasiRandom(g *Guest, stack []uint64) uint32 {
	n := uint32(stack[1])
	if n > maxRandom {
		return errnoInval
	}
	b, ok := g.Read(uint32(stack[0]), n)
	if !ok {
		return errnoFault
	}
	g.Charge(uint64(n))
	if g.pool.options.Random {
		_, _ = crand.Read(b)
		return errnoOK
	}
	if g.wasi.random == nil {
		g.wasi.random = rand.NewChaCha8([32]byte{})
	}
	_, _ = g.wasi.random.Read(b)
	return errnoOK
}

const maxVectors = 1024 // of one fd_write, as in Linux

func wasiWrite(g *Guest, stack []uint64) uint32 {
	fd, vectors, n, result := uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3])
	if fd != 1 && fd != 2 {
		return errnoBadf
	}
	if n > maxVectors {
		return errnoInval
	}
	list, ok := g.Read(vectors, n*8)
	if !ok {
		return errnoFault
	}
	g.Charge(uint64(n) * 16)
	var total uint32
	for ; len(list) > 0; list = list[8:] {
		b, ok := g.Read(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		if !ok {
			return errnoFault
		}
		g.Charge(g.console.write(b, g.pool.options.Log))
		total += uint32(len(b))
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], total)
	if !g.Write(result, b[:]) {
		return errnoFault
	}
	return errnoOK
}

// wasiFdstat says that the three standard streams are character devices.
func wasiFdstat(g *Guest, stack []uint64) uint32 {
	if uint32(stack[0]) > 2 {
		return errnoBadf
	}
	var b [24]byte
	b[0] = 2
	if !g.Write(uint32(stack[1]), b[:]) {
		return errnoFault
	}
	return errnoOK
}

// wasiPoll lets every wait for a clock end at once: nothing in a sandbox sleeps. Go's scheduler asks for one
// subscription at a time; more than a few are refused.
func wasiPoll(g *Guest, stack []uint64) uint32 {
	const subscription, event, most = 48, 32, 16
	in, out, n, result := uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3])
	if n == 0 || n > most {
		return errnoInval
	}
	for i := range n {
		s, ok := g.Read(in+i*subscription, subscription)
		if !ok {
			return errnoFault
		}
		var e [event]byte
		copy(e[:8], s[:8]) // the guest's own mark
		e[10] = s[8]       // what it waited for
		if s[8] == 0 && !g.pool.options.Clock {
			g.wasi.readings += min(binary.LittleEndian.Uint64(s[24:]), uint64(time.Hour))
		}
		if s[8] != 0 {
			e[8] = errnoBadf
		}
		if !g.Write(out+i*event, e[:]) {
			return errnoFault
		}
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], n)
	if !g.Write(result, b[:]) {
		return errnoFault
	}
	return errnoOK
}
