// Command nexus is the gateway: nexus serve answers calls, the other commands check, explain and help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
)

// A command is one verb of the command line.
type command struct {
	name  string // one or two words
	line  string // what it does, in one line
	usage string // its arguments
	run   func(ctx context.Context, t terminal, args []string) error
}

// commands stand in the order in which help lists them.
func commands() []command {
	return []command{
		{"serve", "answer calls until SIGTERM", "[-c nexus.yaml]", serve},
		{"check", "check a configuration and all it names, and print every problem", "-c nexus.yaml", check},
		{"key new", "make an API key; it is shown once, with the entry to paste", "[-id ID] [-tenant T] [-team T] [-tier T] [-models a,b*]", keyNew},
		{"config schema", "print the JSON Schema of the configuration, for editors", "", configSchema},
		{"config reference", "print every setting with its default and meaning", "", configReference},
		{"config default", "print the configuration that serve runs without -c", "", configDefault},
		{"plugin new", "write a plugin that works, with its SDK beside it, into a new folder", "[-lang go|assemblyscript|rust|c] [-dir DIR] NAME", pluginNew},
		{"plugin build", "build a plugin's folder into a module and its manifest", "[-o DIR] [DIR]", pluginBuild},
		{"plugin inspect", "say what a module is, without running it", "[-json] [MODULE|DIR|NAME]", pluginInspect},
		{"plugin test", "hold a plugin to every law of the contract, and to its author's cases", "[-config FILE] [-cases DIR] [-json] [MODULE|DIR|NAME]", pluginTest},
		{"plugin bench", "measure a plugin as the gateway asks it", "[-config FILE] [-time 1s] [MODULE|DIR|NAME]", pluginBench},
		{"plugin run", "ask a plugin about a text or a request, and print what it changes", "[-config FILE] [-who tenant=T,…] -text TEXT | -request FILE [-reply FILE] [-json] [MODULE|DIR|NAME]", pluginRun},
		{"policy init", "write a small policy with its tests into a new folder", "[-json] DIR", policyInit},
		{"policy check", "say all that is wrong or unwise in a folder of policies", "[-c nexus.yaml] [-strict] [-json] [DIR]", policyCheck},
		{"policy fmt", "format policies, or list those that are not", "[-w | -d] [-json] [DIR]", policyFmt},
		{"policy test", "run the tests of a folder of policies, in Rego and in YAML", "[-coverage] [-min PERCENT] [-junit FILE] [-v] [-json] [DIR]", policyTest},
		{"policy eval", "decide a request or an input, and print the decision", "-request FILE | -input FILE [-c nexus.yaml] [-json] [DIR]", policyEval},
		{"policy explain", "say of every rule why it did or did not claim a request", "-request FILE | -input FILE | -id ID -log FILE [-access FILE] [-c nexus.yaml] [-json] [DIR]", policyExplain},
		{"policy bench", "measure what a decision costs", "[-request FILE] [-time 1s] [-c nexus.yaml] [-json] [DIR]", policyBench},
		{"policy record", "make a file for replay out of the decision log", "-log FILE [-access FILE] [-o FILE] [-every N] [-most N] [DIR]", policyRecord},
		{"policy replay", "decide recorded inputs by other policies, and say what flips", "-against DIR -from FILE [-access FILE] [-c nexus.yaml] [-engine ENGINE] [-max-flips N] [-junit FILE] [-json]", policyReplay},
		{"mock", "run the built-in mock backend", "[-listen 127.0.0.1:8000] [-kind vllm|sglang] [-models a,b]", runMock},
		{"version", "print the version", "", printVersion},
	}
}

// A terminal is where a command reads and writes.
type terminal struct {
	out, err io.Writer
}

// Exit codes beside 0: what the user asked for was wrong, or it did not work.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader of our log that goes away must not take the gateway with it
	os.Exit(run(ctx, terminal{os.Stdout, os.Stderr}, os.Args[1:]))
}

// errUsage has been explained to the user already.
var errUsage = errors.New("usage")

func run(ctx context.Context, t terminal, args []string) int {
	if len(args) > 0 && slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		printHelp(t.out)
		return 0
	}
	c, rest, ok := find(args)
	if !ok {
		printHelp(t.err)
		if len(args) > 0 {
			fmt.Fprintf(t.err, "\nnexus: there is no command %q\n", joinWords(args[:min(2, len(args))]))
		}
		return exitUsage
	}
	switch err := c.run(ctx, t, rest); {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return exitUsage
	default:
		fmt.Fprintln(t.err, err)
		return exitFailed
	}
}

// find matches the first one or two words.
func find(args []string) (command, []string, bool) {
	for _, c := range commands() {
		for n := 1; n <= min(2, len(args)); n++ {
			if words := args[:n]; c.name == joinWords(words) {
				return c, args[n:], true
			}
		}
	}
	return command{}, nil, false
}

func joinWords(words []string) string {
	if len(words) == 2 {
		return words[0] + " " + words[1]
	}
	return words[0]
}

func printHelp(w io.Writer) {
	fmt.Fprintln(w, "nexus is a policy gateway for LLM traffic.\n\nUsage:")
	for _, c := range commands() {
		fmt.Fprintf(w, "  nexus %-17s %s\n", c.name, c.line)
		if c.usage != "" {
			fmt.Fprintf(w, "  %25s%s\n", "", c.usage)
		}
	}
}

// parse reads flags and returns at most so many arguments beside them; a mistake is explained with the
// command's own usage. A word too many is one: serve nexus.yaml would else run without that file.
func parse(t terminal, name string, args []string, most int, define func(*flag.FlagSet)) ([]string, error) {
	flags := flag.NewFlagSet("nexus "+name, flag.ContinueOnError)
	flags.SetOutput(t.err)
	define(flags)
	var rest []string
	for { // flags may stand behind arguments too
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, errUsage
		}
		if flags.NArg() == 0 {
			break
		}
		rest, args = append(rest, flags.Arg(0)), flags.Args()[1:]
	}
	if len(rest) > most {
		fmt.Fprintf(t.err, "nexus %s: %q is one argument too many\n", name, rest[most])
		flags.Usage()
		return nil, errUsage
	}
	return rest, nil
}

// none is the define of a command without flags.
func none(*flag.FlagSet) {}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "commit " + s.Value[:min(12, len(s.Value))]
		}
	}
	return "development"
}

func printVersion(_ context.Context, t terminal, args []string) error {
	if _, err := parse(t, "version", args, 0, none); err != nil {
		return err
	}
	_, err := fmt.Fprintln(t.out, "nexus", version())
	return err
}
