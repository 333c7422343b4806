package policy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
)

// kept is the file that holds the last good bundle of this address.
func (c *BundleConfig) kept() string {
	sum := sha256.Sum256([]byte(c.URL))
	return path.Join(c.Keep, keepFolder, fmt.Sprintf("%x.tar.gz", sum[:8]))
}

// stored is a bundle on disk: the file and the sum of what it holds.
type stored struct {
	file string
	sum  [sha256.Size]byte
}

const keepFolder = "nexus-policy"

// keep stores raw for a start without the server: whole or not at all, and where only this user may write.
func (c *BundleConfig) keep(raw []byte) (err error) {
	if c.Keep == "" {
		return nil
	}
	folder := path.Dir(c.kept())
	if err := private(folder); err != nil {
		return fmt.Errorf("policy: keep the bundle: %w", err)
	}
	f, err := os.CreateTemp(folder, "new-*")
	if err != nil {
		return fmt.Errorf("policy: keep the bundle: %w", err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), c.kept())
	}
	if err != nil {
		return fmt.Errorf("policy: keep the bundle: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// private makes folder, or reports that others may write there.
func private(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(folder)
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("%s can be written by others: chmod 700 it", folder)
	}
	return err
}

// recall reads what keep stored. It is verified again by whoever unpacks it.
func (c *BundleConfig) recall() ([]byte, error) {
	if c.Keep == "" {
		return nil, errors.New("policy: no bundle is kept: bundle.keep is not set")
	}
	if err := private(path.Dir(c.kept())); err != nil {
		return nil, fmt.Errorf("policy: read the kept bundle: %w", err)
	}
	f, err := os.Open(c.kept())
	if err != nil {
		return nil, fmt.Errorf("policy: read the kept bundle: %w", err)
	}
	defer f.Close()
	return bounded(f, int(c.MaxSize), c.kept())
}

// restore is the bundle that keep stored, verified.
func (c *BundleConfig) restore() (*release, error) {
	raw, err := c.recall()
	if err != nil {
		return nil, err
	}
	r, err := releaseOf(c, download{raw: raw})
	if err != nil {
		return nil, fmt.Errorf("policy: the kept bundle: %w", err)
	}
	return r, nil
}
