package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is a child that the bench started, with the children it started itself.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// launch starts a program. The caller stops it.
func launch(dir string, env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), env...)
	log, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return nil, fmt.Errorf("bench: log of %s: %w", name, err)
	}
	defer log.Close()
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	return p, nil
}

// grace is how long a child may take to stop by itself.
const grace = 3 * time.Second

// stop ends the child and waits for it.
func (p *process) stop() {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Kill} {
		_ = p.cmd.Process.Signal(signal) // it may have ended
		select {
		case <-p.ended:
			return
		case <-time.After(grace):
		}
	}
	<-p.ended
}

// ready waits until ok, as long as the child lives.
func (p *process) ready(ctx context.Context, ok func() error) error {
	var err error
	for range 600 {
		if err = ok(); err == nil {
			return nil
		}
		select {
		case <-p.ended:
			log, _ := os.ReadFile(filepath.Join(p.cmd.Dir, "stderr")) // the error below says enough without it
			return fmt.Errorf("bench: %s ended: %s", p.cmd.Path, log[max(0, len(log)-2000):])
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("bench: %s is not ready after 30s: %w", p.cmd.Path, err)
}

// pids are the child and all below it.
func (p *process) pids() []string {
	all := []string{strconv.Itoa(p.cmd.Process.Pid)}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob("/proc/" + all[i] + "/task/*/children") // the pattern is good
		for _, l := range lists {
			b, _ := os.ReadFile(l) // a thread that ended has no children
			all = append(all, strings.Fields(string(b))...)
		}
	}
	return all
}

// tick is the unit of CPU time in /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// An account is the CPU time that processes have spent. The kernel keeps it by process in ticks, which is
// whole but coarse, and by thread to the nanosecond, where a thread that ends takes its time along.
type account struct {
	coarse, fine time.Duration
	slack        time.Duration // what rounding may have taken from coarse
}

// cpu is the account of the child and all below it.
func (p *process) cpu() (a account) {
	for _, pid := range p.pids() {
		b, _ := os.ReadFile("/proc/" + pid + "/stat") // one that ended counts no more
		a.coarse += statCPU(string(b))
		a.slack += 4 * tick                                               // of utime and stime, before and after
		threads, _ := filepath.Glob("/proc/" + pid + "/task/*/schedstat") // the pattern is good
		for _, t := range threads {
			b, _ := os.ReadFile(t) // one that ended counts no more
			a.fine += schedCPU(string(b))
		}
	}
	return a
}

// since is what was spent after before: the fine figure unless the coarse one contradicts it.
func (a account) since(before account) time.Duration {
	coarse, fine := a.coarse-before.coarse, a.fine-before.fine
	if (coarse - fine).Abs() > a.slack+coarse/20 {
		return coarse
	}
	return fine
}

// schedCPU reads the first field of schedstat, nanoseconds on a CPU.
func schedCPU(stat string) time.Duration {
	first, _, _ := strings.Cut(stat, " ")
	n, _ := strconv.ParseInt(first, 10, 64) // the kernel writes numbers
	return time.Duration(n)
}

// statCPU reads utime and stime, the 14th and 15th field; the name, the 2nd, may hold blanks.
func statCPU(stat string) time.Duration {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64) // the kernel writes numbers
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
}

// memory is a line of /proc/PID/status, VmRSS or VmHWM, summed, in bytes.
func (p *process) memory(name string) (total int64) {
	for _, pid := range p.pids() {
		b, _ := os.ReadFile("/proc/" + pid + "/status") // one that ended has none
		total += statusLine(string(b), name)
	}
	return total
}

func statusLine(status, name string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // the kernel writes numbers
			return n << 10
		}
	}
	return 0
}

// forget makes VmHWM start again from what is held now.
func (p *process) forget() {
	for _, pid := range p.pids() {
		_ = os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0) // not allowed: the peak is an older one
	}
}
