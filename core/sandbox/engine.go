package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
)

// An Engine owns what outlives one module: the cache of compiled code, in memory and on disk.
type Engine struct {
	dir   string
	cache wazero.CompilationCache
	once  sync.Once
	err   error
}

// NewEngine makes an engine that keeps compiled code in dir, or in memory alone when dir is empty. The
// directory is created with mode 0700 and refused if someone else can write to it: wazero maps the files
// found there as executable code, guarded by nothing but a CRC.
func NewEngine(dir string) (*Engine, error) {
	if dir == "" {
		return &Engine{cache: wazero.NewCompilationCache()}, nil
	}
	if err := privateDir(dir); err != nil {
		return nil, fmt.Errorf("sandbox: cache directory %s: %w", dir, err)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("sandbox: cache directory %s: %w", dir, err)
	}
	return &Engine{dir: dir, cache: cache}, nil
}

// Close frees the compiled code. Every pool of this engine must be closed before.
func (e *Engine) Close() error {
	e.once.Do(func() { e.err = e.cache.Close(context.Background()) })
	return e.err
}

// compile compiles a module by way of the cache. If what lies there on disk is damaged, as after a full disk or
// a crash, all of it is thrown away and made anew: a cache must not keep a gateway from starting.
func (e *Engine) compile(ctx context.Context, r wazero.Runtime, wasm []byte) (wazero.CompiledModule, error) {
	m, err := compile(ctx, r, wasm)
	if err == nil || e.dir == "" || !strings.HasPrefix(err.Error(), "compilationcache:") {
		return m, err
	}
	files, err := filepath.Glob(filepath.Join(e.dir, "wazero-*", "*"))
	for _, file := range files {
		err = errors.Join(err, unlessGone(os.Remove(file)))
	}
	if err != nil {
		return nil, fmt.Errorf("clear the damaged cache: %w", err)
	}
	return compile(ctx, r, wasm)
}

// compile is wazero's, whose panics over bad modules become errors: the meter has checked the module's indices,
// but a module must not be able to end the process by what neither has thought of.
func compile(ctx context.Context, r wazero.Runtime, wasm []byte) (m wazero.CompiledModule, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the compiler gave up: %v", cause)
		}
	}()
	return r.CompileModule(ctx, wasm)
}

// privateDir makes dir, or checks that it and all that lies in it belong to us alone. Another engine may be at work
// in it, whose files come and go: one that is gone is no danger.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return unlessGone(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			return unlessGone(err)
		}
		return private(path, info)
	})
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func private(path string, info os.FileInfo) error {
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a directory: name another directory, or remove it", path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s has mode %#o: others could put code there; make it 0700", path, info.Mode().Perm())
	}
	return ours(path, info)
}
