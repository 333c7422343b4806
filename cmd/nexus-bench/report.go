package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A column is one figure of a scenario's table. Its value gets the round's samples of the subject, of
// direct and of the bare ReverseProxy; ok is false where there is nothing to say.
type column struct {
	head  string
	form  string
	value func(s, direct, bare sample) (v float64, ok bool)
}

const mega = 1 << 20

func perCall(s sample) float64   { return us(s.cpu) / float64(max(s.calls, 1)) }
func perEvent(s sample) float64  { return us(s.cpu) / float64(max(s.events, 1)) }
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// of is a column of the subject's sample alone.
func of(head, form string, f func(s sample) float64) column {
	return column{head, form, func(s, _, _ sample) (float64, bool) { return f(s), true }}
}

// ofProxy is of for what only a process between has.
func ofProxy(head, form string, f func(s sample) float64) column {
	return column{head, form, func(s, _, _ sample) (float64, bool) { return f(s), s.proxied }}
}

// times compares with the bare ReverseProxy of the same round.
func times(f func(s sample) float64) column {
	return column{"× bare", "%.2f", func(s, _, bare sample) (float64, bool) {
		if !s.proxied || !bare.proxied || f(bare) == 0 {
			return 0, false
		}
		return f(s) / f(bare), true
	}}
}

// added compares a percentile with direct in the same round.
func added(share float64, head string) column {
	return column{head, "%.2f", func(s, direct, _ sample) (float64, bool) {
		return ms(s.latency.at(share) - direct.latency.at(share)), s.proxied && direct.result != nil
	}}
}

func latency(share float64, head string) column {
	return of(head, "%.2f", func(s sample) float64 { return ms(s.latency.at(share)) })
}

var (
	rssColumn    = ofProxy("VmRSS MiB", "%.0f", func(s sample) float64 { return float64(s.rss) / mega })
	peakColumn   = ofProxy("VmHWM MiB", "%.0f", func(s sample) float64 { return float64(s.peak) / mega })
	errorsColumn = of("errors", "%.0f", func(s sample) float64 { return float64(s.errors) })
	callsColumn  = of("calls/s", "%.0f", func(s sample) float64 { return float64(s.calls) / s.took.Seconds() })
	cpuColumn    = ofProxy("CPU µs/call", "%.0f", perCall)

	wholeColumns = []column{callsColumn, cpuColumn, times(perCall), latency(.5, "p50 ms"), latency(.99, "p99 ms"), peakColumn, errorsColumn}
	rateColumns  = []column{latency(.5, "p50 ms"), latency(.99, "p99 ms"), added(.5, "added p50 ms"), added(.99, "added p99 ms"), cpuColumn, errorsColumn}

	streamColumns = []column{
		of("chunks/s", "%.0f", func(s sample) float64 { return float64(s.events) / s.took.Seconds() }),
		ofProxy("CPU µs/chunk", "%.1f", perEvent), times(perEvent),
		of("late p50 ms", "%.2f", func(s sample) float64 { return ms(s.late.at(.5)) }),
		of("late p99 ms", "%.2f", func(s sample) float64 { return ms(s.late.at(.99)) }),
		latency(.5, "first text p50 ms"), rssColumn, peakColumn, errorsColumn,
	}
)

// report is the whole Markdown text.
func (o *options) report(p *plant, tables []table) string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nMade by `" + strings.TrimSpace(o.command) + "`.\n\n" + o.machine())
	b.WriteString(explanation)
	for _, s := range p.subjects {
		fmt.Fprintf(&b, "- **%s**: %s", s.name, s.note)
		if s.idle > 0 {
			fmt.Fprintf(&b, "; VmRSS before any load %d MiB", s.idle/mega)
		}
		b.WriteString("\n")
	}
	for _, s := range p.skipped {
		b.WriteString("- left out: " + s + "\n")
	}
	for _, t := range tables {
		b.WriteString("\n## " + t.scenario.title + "\n\n" + t.markdown(p))
	}
	return b.String()
}

const explanation = `
Every figure is the median over the rounds, with the least and the greatest behind it where they differ. The
subjects take turns within each round. Load, backend and subject share this one machine, so calls a second say
how much all of them do together; what a subject costs is its own CPU time as its process accounts for it
(schedstat of its threads, checked against /proc/PID/stat), and × bare is that against the ReverseProxy of the same round. Late is how much
later than its pace an event came, counted from its stream's first text; direct has the backend's own lateness.
The first text of a stream stands 2 events in. VmHWM is the greatest memory during the scenario.

`

func (t *table) markdown(p *plant) string {
	var b strings.Builder
	b.WriteString("| subject |")
	for _, c := range t.scenario.cols {
		b.WriteString(" " + c.head + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(t.scenario.cols)) + "\n")
	for _, s := range p.subjects {
		b.WriteString("| " + s.name + " |")
		for _, c := range t.scenario.cols {
			b.WriteString(" " + t.cell(c, s.name) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// cell is a column's median for a subject, with its range.
func (t *table) cell(c column, subject string) string {
	var values []float64
	for i, s := range t.samples[subject] {
		if v, ok := c.value(s, at(t.samples["direct"], i), at(t.samples["reverseproxy"], i)); ok {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return "–"
	}
	slices.Sort(values)
	mid, low, high := fmt.Sprintf(c.form, median(values)), fmt.Sprintf(c.form, values[0]), fmt.Sprintf(c.form, values[len(values)-1])
	if low == high {
		return mid
	}
	return mid + " (" + low + "…" + high + ")"
}

func at(samples []sample, i int) sample {
	if i < len(samples) {
		return samples[i]
	}
	return sample{}
}

// median of sorted values.
func median(v []float64) float64 {
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// machine says where and on what the figures were made.
func (o *options) machine() string {
	lines := []string{
		"machine: " + cpuModel() + ", " + fmt.Sprint(runtime.NumCPU()) + " CPUs, " + runtime.GOOS + "/" + runtime.GOARCH,
		"date: " + time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		"commit: " + o.commitName(),
		"Go: " + runtime.Version(),
		fmt.Sprintf("rounds: %d", o.profile.rounds),
		"load average at the end: " + loadAverage(),
	}
	return "- " + strings.Join(lines, "\n- ") + "\n"
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // elsewhere than on Linux: unknown
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg") // elsewhere than on Linux: unknown
	fields := strings.Fields(string(b))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

func (o *options) commitName() string {
	if o.commit != "" {
		return o.commit
	}
	b, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
