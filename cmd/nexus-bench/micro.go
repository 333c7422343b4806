package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// micro turns what several rounds of `go test -bench` print, on standard input, into a table of medians, and
// appends it to a report.
func micro(_ context.Context, out io.Writer, args []string) error {
	flags := flag.NewFlagSet("nexus-bench micro", flag.ContinueOnError)
	title := flags.String("title", "One call", "heading of the table")
	write := flags.String("append", "", "file to append the table to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rows, err := readMicro(io.TeeReader(os.Stdin, out))
	if err != nil {
		return err
	}
	text := "\n## " + *title + "\n\n" + rows.markdown()
	if *write == "" {
		_, err = io.WriteString(out, text)
		return err
	}
	f, err := os.OpenFile(*write, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("append the table: %w", err)
	}
	_, err = f.WriteString(text)
	return joinClose(err, f)
}

func joinClose(err error, c io.Closer) error {
	if closed := c.Close(); err == nil {
		return closed
	}
	return err
}

// micros are benchmarks in the order in which they came first.
type micros struct {
	names []string
	units []string                        // of all benchmarks, in order of appearance
	of    map[string]map[string][]float64 // name → unit → one value a round
}

// benchLine is a benchmark's line: name, the number of processors it ran on, iterations, then values with units.
var benchLine = regexp.MustCompile(`^Benchmark(\S+?)(-\d+)?\s+\d+\s+(\S.*)$`)

func readMicro(r io.Reader) (*micros, error) {
	m := &micros{of: map[string]map[string][]float64{}}
	failed := false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		failed = failed || strings.HasPrefix(lines.Text(), "FAIL") || strings.HasPrefix(lines.Text(), "--- FAIL")
		if parts := benchLine.FindStringSubmatch(lines.Text()); parts != nil {
			m.add(parts[1], strings.Fields(parts[3]))
		}
	}
	switch {
	case lines.Err() != nil:
		return nil, lines.Err()
	case failed:
		return nil, fmt.Errorf("a benchmark failed")
	case len(m.names) == 0:
		return nil, fmt.Errorf("no benchmark on standard input")
	}
	return m, nil
}

func (m *micros) add(name string, fields []string) {
	if m.of[name] == nil {
		m.names, m.of[name] = append(m.names, name), map[string][]float64{}
	}
	for ; len(fields) >= 2; fields = fields[2:] {
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return
		}
		if !slices.Contains(m.units, fields[1]) {
			m.units = append(m.units, fields[1])
		}
		m.of[name][fields[1]] = append(m.of[name][fields[1]], v)
	}
}

func (m *micros) markdown() string {
	var b strings.Builder
	b.WriteString("| benchmark | " + strings.Join(m.units, " | ") + " |\n|---|" + strings.Repeat("---:|", len(m.units)) + "\n")
	for _, name := range m.names {
		b.WriteString("| " + name + " |")
		for _, unit := range m.units {
			b.WriteString(" " + spread(m.of[name][unit]) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// spread writes the median of some values, and their range where they differ.
func spread(v []float64) string {
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	write := func(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
	if v[0] == v[len(v)-1] {
		return write(v[0])
	}
	return write(median(v)) + " (" + write(v[0]) + "…" + write(v[len(v)-1]) + ")"
}
