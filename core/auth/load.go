package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nexus-gateway/nexus/core/setting"
)

// A Decode reads the text of the file name strictly (an unknown field is an error) into a pointer.
type Decode func(name string, data []byte, into any) error

// maxFile bounds a keys file: about 100,000 entries.
const maxFile = 32 << 20 // bytes

// entries gathers the keys of all three places. Whatever cannot be read is an error: a gateway that
// starts without its keys would refuse everyone or, worse, be given anonymous to make it work.
func (c *Config) entries(decode Decode) ([]Entry, error) {
	all := slices.Clone(c.Keys)
	if c.KeysFile != "" {
		more, err := readFile(c.KeysFile, decode)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	if c.KeysEnv != "" {
		more, err := readEnv(c.KeysEnv)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func readFile(name string, decode Decode) ([]Entry, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("auth: read keys_file: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("auth: keys_file %s has %d bytes, more than %d", name, info.Size(), maxFile)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("auth: read keys_file: %w", err)
	}
	var list []Entry
	if err := decode(name, data, &list); err != nil {
		return nil, fmt.Errorf("auth: keys_file: %w", err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("auth: keys_file %s holds no keys", name)
	}
	return list, problems(name, list)
}

func readEnv(name string) ([]Entry, error) {
	list, err := parseEnv(os.Getenv(name))
	if err != nil {
		return nil, fmt.Errorf("auth: environment variable %s: %w", name, err)
	}
	return list, nil
}

// parseEnv reads id:key[:tenant[:tier]], separated by commas. Its errors never repeat the text.
func parseEnv(text string) ([]Entry, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("it is not set or empty; write id:key[:tenant[:tier]], separated by commas")
	}
	var list []Entry
	for i, item := range strings.Split(text, ",") {
		parts := strings.Split(strings.TrimSpace(item), ":")
		if len(parts) < 2 || len(parts) > 4 {
			return nil, fmt.Errorf("item %d is not id:key[:tenant[:tier]]", i+1)
		}
		if len(parts[1]) < minKey || !plainKey(parts[1]) {
			return nil, fmt.Errorf("the key of item %d is not %d to %d visible ASCII characters", i+1, minKey, maxKey)
		}
		parts = append(parts, "", "")
		list = append(list, Entry{ID: parts[0], SHA256: hash(parts[1]), Tenant: parts[2], Tier: parts[3]})
	}
	return list, nil
}

// problems returns every mistake among the entries of source as one error.
func problems(source string, list []Entry) error {
	p := setting.NewProblems()
	checkAll(list, p)
	var errs []error
	for _, one := range p.All() {
		errs = append(errs, fmt.Errorf("auth: %s: %s: %s", source, one.Path, one.Text))
	}
	return errors.Join(errs...)
}

// keyPrefix marks our keys for people and for scanners that look for leaked secrets.
const keyPrefix = "nx-"

// NewKey makes a key of 256 random bits and the entry that lets it in. The key is shown once and kept
// nowhere; the caller may rename the entry and fill in the rest.
func NewKey() (key string, e Entry, err error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", Entry{}, fmt.Errorf("auth: make a key: %w", err)
	}
	key = keyPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	return key, Entry{ID: "key-" + strings.ToLower(rand.Text()[:8]), SHA256: hash(key)}, nil
}

// Paste writes the entry as an item of a YAML list, ready for keys_file or keys.
func (e Entry) Paste() string {
	var b strings.Builder
	fmt.Fprintf(&b, "- id: %q\n  sha256: %q\n", e.ID, e.SHA256)
	for _, f := range []struct{ name, text string }{{"tenant", e.Tenant}, {"team", e.Team}, {"tier", e.Tier}, {"expires", e.Expires}} {
		if f.text != "" {
			fmt.Fprintf(&b, "  %s: %q\n", f.name, f.text)
		}
	}
	if len(e.Models) > 0 {
		quoted := make([]string, len(e.Models))
		for i, m := range e.Models {
			quoted[i] = strconv.Quote(m)
		}
		fmt.Fprintf(&b, "  models: [%s]\n", strings.Join(quoted, ", "))
	}
	return b.String()
}

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
