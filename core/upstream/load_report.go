package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// errNoLoad says that an engine's answer does not tell of its load. What is not told is unknown, never 0.
var errNoLoad = errors.New("it tells of no load")

// parseLoad reads an engine's load from what it answers: the text form of Prometheus, or SGLang's JSON.
func parseLoad(body []byte) (balance.Report, error) {
	start := bytes.TrimLeft(body, " \t\r\n")
	if len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return parseLoadJSON(start)
	}
	return parseMetrics(body)
}

// A signal is one of what is read of an engine's metrics.
type signal int

const (
	runningCalls signal = iota
	waitingCalls
	kvUsed
	kvUsedOnce // under the name that vLLM gave up: it counts where the new one is not
	signals
)

// metricNames are the names of the signals behind an engine's prefix: vLLM's, SGLang's and TensorRT-LLM's.
var metricNames = map[string]signal{
	"num_requests_running": runningCalls, "num_running_reqs": runningCalls,
	"num_requests_waiting": waitingCalls, "num_queue_reqs": waitingCalls,
	"kv_cache_usage_perc": kvUsed, "token_usage": kvUsed, "kv_cache_utilization": kvUsed,
	"gpu_cache_usage_perc": kvUsedOnce,
}

// enginePrefixes stand before the names, followed by a colon or an underscore.
var enginePrefixes = []string{"vllm", "sglang", "ray_vllm", "trtllm"}

// maxSeries bounds the ranks and models of one engine that are told apart.
const maxSeries = 1024

// A series gathers one signal. Engines of data parallelism stand beside each other and are summed; the ranks of one
// engine tell the same thing, and the highest counts.
type series map[string]float64

func (t *series) note(labels string, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return
	}
	if *t == nil {
		*t = make(series)
	}
	old, ok := (*t)[labels]
	if !ok && len(*t) >= maxSeries {
		return
	}
	(*t)[labels] = max(old, v)
}

func (t series) sum() (sum float64) {
	for _, v := range t {
		sum += v
	}
	return sum
}

// report makes the report of the signals.
func report(t *[signals]series) (balance.Report, error) {
	if len(t[runningCalls]) == 0 || len(t[waitingCalls]) == 0 {
		return balance.Report{}, errNoLoad
	}
	r := balance.Report{Running: asCalls(t[runningCalls].sum()), Waiting: asCalls(t[waitingCalls].sum()), KV: -1}
	kv := t[kvUsed]
	if len(kv) == 0 {
		kv = t[kvUsedOnce]
	}
	if len(kv) > 0 {
		r.KV = min(kv.sum()/float64(len(kv)), 1)
	}
	return r, nil
}

// maxCalls bounds what an engine may say of its calls.
const maxCalls = 1 << 30

func asCalls(v float64) int64 { return int64(min(v, maxCalls)) }

// parseMetrics reads the text form of Prometheus.
func parseMetrics(body []byte) (balance.Report, error) {
	var t [signals]series
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		name, rest := metricName(line)
		s, ok := signalOf(name)
		if !ok {
			continue
		}
		labels, rest, ok := metricLabels(rest)
		if !ok {
			continue
		}
		fields := bytes.Fields(rest) // the value, and perhaps a time
		if len(fields) == 0 {
			continue
		}
		if v, err := strconv.ParseFloat(string(fields[0]), 64); err == nil {
			t[s].note(labels, v)
		}
	}
	return report(&t)
}

func metricName(line []byte) (name, rest []byte) {
	end := bytes.IndexAny(line, "{ \t")
	if end < 0 {
		return line, nil
	}
	return line[:end], line[end:]
}

func signalOf(name []byte) (signal, bool) {
	for _, prefix := range enginePrefixes {
		rest, ok := bytes.CutPrefix(name, []byte(prefix))
		if !ok || len(rest) == 0 || rest[0] != ':' && rest[0] != '_' {
			continue
		}
		if s, ok := metricNames[string(rest[1:])]; ok {
			return s, true
		}
	}
	return 0, false
}

// metricLabels reads the labels before a value, if there are any, and returns them without those of ranks that work
// on the same calls.
func metricLabels(in []byte) (labels string, rest []byte, ok bool) {
	in = bytes.TrimLeft(in, " \t")
	if len(in) == 0 || in[0] != '{' {
		return "", in, true
	}
	var b strings.Builder
	for in = in[1:]; ; {
		in = bytes.TrimLeft(in, " \t,")
		if len(in) > 0 && in[0] == '}' {
			return b.String(), in[1:], true
		}
		name, value, found := bytes.Cut(in, []byte("="))
		value = bytes.TrimLeft(value, " \t")
		if !found || len(value) == 0 || value[0] != '"' {
			return "", nil, false
		}
		end := quoteEnd(value)
		if end < 0 {
			return "", nil, false
		}
		if n := string(bytes.TrimSpace(name)); n != "tp_rank" && n != "pp_rank" {
			b.WriteString(n)
			b.Write(value[:end])
		}
		in = value[end:]
	}
}

// quoteEnd is where the quoted string that s begins with has ended; -1: it does not.
func quoteEnd(s []byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// A rankLoad is what one rank tells in SGLang's JSON: of /v1/loads, or of the older /get_load, whose num_reqs
// counts those that wait, too.
type rankLoad struct {
	Running *float64 `json:"num_running_reqs"`
	Waiting *float64 `json:"num_waiting_reqs"`
	All     *float64 `json:"num_reqs"`
	KV      *float64 `json:"token_usage"`
}

func parseLoadJSON(body []byte) (balance.Report, error) {
	var answer struct {
		Loads []rankLoad `json:"loads"`
	}
	var err error
	if body[0] == '[' {
		err = json.Unmarshal(body, &answer.Loads)
	} else {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil {
		return balance.Report{}, err
	}
	var t [signals]series
	for i, l := range answer.Loads {
		l.note(&t, strconv.Itoa(i))
	}
	if n := len(answer.Loads); len(t[runningCalls]) < n || len(t[waitingCalls]) < n { // one that does not tell may be the busy one
		return balance.Report{}, errNoLoad
	}
	return report(&t)
}

func (l rankLoad) note(t *[signals]series, rank string) {
	if l.Running == nil && l.All != nil && l.Waiting != nil {
		n := max(*l.All-max(*l.Waiting, 0), 0)
		l.Running = &n
	}
	for s, v := range map[signal]*float64{runningCalls: l.Running, waitingCalls: l.Waiting, kvUsed: l.KV} {
		if v != nil {
			t[s].note(rank, *v)
		}
	}
}
