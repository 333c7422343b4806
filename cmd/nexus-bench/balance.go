package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/nexus-gateway/nexus/core/upstream/balance/sim"
)

// balances compares the balancing algorithms in the simulator and appends the tables to a report.
func balances(_ context.Context, out io.Writer, args []string) error {
	flags := flag.NewFlagSet("nexus-bench balance", flag.ContinueOnError)
	seed := flags.Uint64("seed", 1, "of the simulation; the same gives the same")
	write := flags.String("append", "", "file to append the tables to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("\n## Balancing, simulated\n\n")
	if err := sim.Table(&b, *seed); err != nil {
		return err
	}
	if _, err := out.Write(b.Bytes()); err != nil || *write == "" {
		return err
	}
	f, err := os.OpenFile(*write, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("append the tables: %w", err)
	}
	_, err = f.Write(b.Bytes())
	return joinClose(err, f)
}
