package main

import (
	"strings"
	"testing"
)

func TestReadMicro(t *testing.T) {
	const text = `goos: linux
BenchmarkHook/empty          	 9000000	       120.5 ns/op	       0 B/op	       0 allocs/op
BenchmarkHook/text-2         	 9000000	       500 ns/op	        12.5 fuel/op
PASS
BenchmarkHook/empty          	 9000000	       100.5 ns/op	       0 B/op	       0 allocs/op
BenchmarkHook/empty          	 9000000	       130.5 ns/op	       0 B/op	       0 allocs/op
`
	m, err := readMicro(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	const want = `| benchmark | ns/op | B/op | allocs/op | fuel/op |
|---|---:|---:|---:|---:|
| Hook/empty | 120.5 (100.5…130.5) | 0 | 0 | – |
| Hook/text | 500 | – | – | 12.5 |
`
	if got := m.markdown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, bad := range []string{"", "PASS\n", text + "FAIL\n"} {
		if _, err := readMicro(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
