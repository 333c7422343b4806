//go:build !wasip1

package nexus

// A Host is the gateway as a plugin's own tests see it. Tests set Try's host with TryHost.
type Host struct {
	Labels   map[string]string // written by SetLabel
	Facts    map[Fact]string   // of Known, those without a name
	Named    map[string]string // of Known, principal's labels and headers by name
	Counters map[string]int64
	Vault    map[string]string // token → value
	Metrics  map[string]float64
	Lines    []string // logged
	Model    string   // chosen
	Pool     string   // chosen
	Now      int64    // Unix milliseconds
	Answer   func(HTTPRequest) (HTTPResponse, error)
}

// NewHost returns a host that knows nothing.
func NewHost() *Host {
	return &Host{Labels: map[string]string{}, Facts: map[Fact]string{}, Named: map[string]string{},
		Counters: map[string]int64{}, Vault: map[string]string{}, Metrics: map[string]float64{}}
}

var host = NewHost()

// TryHost makes h the host of all that follows and returns it. Tests that use it do not run in parallel.
func TryHost(h *Host) *Host {
	host = h
	return h
}

// The functions below are those of host_wasm.go, which says what they do.

func Log(line string) { host.Lines = append(host.Lines, line) }

func Label(name string) (value string, ok bool) {
	value, ok = host.Labels[name]
	return value, ok
}

func SetLabel(name, value string) { host.Labels[name] = value }

func Known(f Fact, name string) (value string, ok bool) {
	if name != "" {
		value, ok = host.Named[name]
		return value, ok
	}
	value, ok = host.Facts[f]
	return value, ok
}

func SetModel(name string)   { host.Model = name }
func SetPool(name string)    { host.Pool = name }
func Count(key string) int64 { return host.Counters[key] }

func CountIf(key string, amount, limit, _ int64) (count int64, ok bool) {
	count = max(0, host.Counters[key]+amount)
	if count > limit {
		return -1, false
	}
	host.Counters[key] = count
	return count, true
}

func VaultPut(value, token string)          { host.Vault[token] = value }
func AddMetric(name string, amount float64) { host.Metrics[name] += amount }
func NowMillis() int64                      { return host.Now }

// Random fills b with the same bytes every time.
func Random(b []byte) {
	for i := range b {
		b[i] = byte(i*167 + 13)
	}
}

func HTTP(r HTTPRequest) (HTTPResponse, error) {
	if host.Answer == nil {
		return HTTPResponse{}, ErrNotAllowed
	}
	return host.Answer(r)
}
