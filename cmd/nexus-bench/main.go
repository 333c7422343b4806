// Command nexus-bench measures what the gateway costs: a load generator, and a comparison with nothing,
// nginx and a bare ReverseProxy in one interleaved run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A command is one verb of the command line.
type command struct {
	name, line string
	run        func(ctx context.Context, out io.Writer, args []string) error
}

func commands() []command {
	return []command{
		{"compare", "measure direct, nginx, a bare ReverseProxy and Nexus in turn", compare},
		{"micro", "make a table of what go test -bench printed, from standard input", micro},
		{"balance", "compare ways to balance in the simulator", balances},
		{"load", "put load on one address and report", load},
		{"reverseproxy", "run a bare httputil.ReverseProxy", reverseProxy},
		{"backend", "run the mock backend that compare measures against", backend},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Stdout, os.Args[1:]))
}

func run(ctx context.Context, out io.Writer, args []string) int {
	for _, c := range commands() {
		if len(args) == 0 || c.name != args[0] {
			continue
		}
		err := c.run(ctx, out, args[1:])
		switch {
		case err == nil || errors.Is(err, flag.ErrHelp):
			return 0
		default:
			fmt.Fprintln(os.Stderr, "nexus-bench:", err)
			return 1
		}
	}
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "nexus-bench %-13s %s\n", c.name, c.line)
	}
	return 2
}
