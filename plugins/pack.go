//go:build ignore

// Command pack puts the modules and manifests of a folder into one compressed file, the same bytes for the same files.
package main

import (
	"archive/zip"
	"compress/flate"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: pack OUT.zip DIR")
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func pack(out, dir string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	w := zip.NewWriter(f)
	w.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	names, err := filepath.Glob(filepath.Join(dir, "*.*"))
	for _, name := range names {
		err = errors.Join(err, add(w, name))
	}
	return errors.Join(err, w.Close(), f.Close())
}

func add(w *zip.Writer, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	to, err := w.CreateHeader(&zip.FileHeader{Name: filepath.Base(name), Method: zip.Deflate})
	if err == nil {
		_, err = to.Write(text)
	}
	return err
}
