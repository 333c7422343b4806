package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/nexus-gateway/nexus/core/setting"
)

// A signer signs bundles as an operator would.
type signer struct {
	algorithm string
	private   string
	public    string
}

func newSigner(t testing.TB, algorithm string) signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm[:2] {
	case "HS":
		return signer{algorithm, strings.Repeat("s3cret-", 8), strings.Repeat("s3cret-", 8)}
	case "RS", "PS":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return signer{algorithm, text("PRIVATE KEY", private), text("PUBLIC KEY", public)}
}

func (s signer) key() map[string]BundleKey {
	return map[string]BundleKey{"ops": {s.algorithm, setting.NewSecret(s.public)}}
}

// packed is a bundle as OPA writes it; files are given as name, text, name, text…, and sign may be the zero signer.
func packed(t testing.TB, revision string, sign signer, files ...string) []byte {
	t.Helper()
	b := bundle.Bundle{Manifest: bundle.Manifest{Revision: revision}, Data: map[string]any{}}
	b.Manifest.Init()
	for i := 0; i < len(files); i += 2 {
		name, text := files[i], files[i+1]
		if name == dataFile {
			if err := json.Unmarshal([]byte(text), &b.Data); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b.Modules = append(b.Modules, bundle.ModuleFile{
			URL: "/" + name, Path: "/" + name, RelativePath: "/" + name, Raw: []byte(text),
			Parsed: ast.MustParseModuleWithOpts(text, ast.ParserOptions{RegoVersion: ast.RegoV1}),
		})
	}
	if sign.algorithm != "" {
		if err := b.GenerateSignature(bundle.NewSigningConfig(sign.private, sign.algorithm, ""), "ops", true); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := bundle.NewWriter(&out).DisableFormat(true).UseModulePath(true).Write(b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// archived is a .tar.gz of names and texts, for what OPA would never write.
func archived(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// to is a policy that sends every call to pool.
func to(pool string) string {
	return fmt.Sprintf("package nexus.routes\n\nall := {\"targets\": [%q], \"reason\": data.why}\n", pool)
}

const why = `{"why": "because"}`

func testBundle(url string) BundleConfig {
	return BundleConfig{URL: url, Poll: time.Minute, Timeout: 10 * time.Second, MaxSize: 1 << 20}
}

func TestSignedBundles(t *testing.T) {
	other := map[string]signer{}
	for _, algorithm := range []string{"RS256", "PS256", "ES256", "EdDSA", "HS256"} {
		s := newSigner(t, algorithm)
		other[algorithm] = s
		raw := packed(t, "r1", s, "a/mine.rego", to("local"), dataFile, why)
		c := testBundle("https://h/nexus.tar.gz")
		c.Keys = s.key()
		p := setting.NewProblems()
		if c.validate(p); len(p.All()) > 0 {
			t.Errorf("%s: %v", algorithm, p.All())
		}
		f, err := c.unpack(raw, "nexus.tar.gz")
		if err != nil || f.revision != "r1" || f.rego["nexus.tar.gz/a/mine.rego"] == "" || string(f.data) != `{"why":"because"}` {
			t.Errorf("%s: got %+v, %v", algorithm, f, err)
		}
	}
	good, rs := packed(t, "r1", other["RS256"], "mine.rego", to("local")), other["RS256"]
	unsigned := packed(t, "r1", signer{}, "mine.rego", to("local"))
	swapped := repacked(t, good, "/mine.rego", to("elsewhere"))
	more := appended(t, good, "/more.rego", to("elsewhere"))
	tests := []struct {
		name string
		raw  []byte
		keys map[string]BundleKey
		want string
	}{
		{"not signed", unsigned, rs.key(), "missing .signatures.json"},
		{"another key", good, newSigner(t, "RS256").key(), "verify JWT signature"},
		{"another key id", good, map[string]BundleKey{"qa": rs.key()["ops"]}, "ops"},
		{"another algorithm", good, map[string]BundleKey{"ops": {"PS256", rs.key()["ops"].Key}}, "verify JWT signature"},
		{"the public key as a shared secret", packed(t, "r1", signer{"HS256", rs.public, ""}, "mine.rego", to("x")), rs.key(), "verify JWT signature"},
		{"a file that was changed", swapped, rs.key(), "digest mismatch"},
		{"a file that was added", more, rs.key(), "not included in bundle signature"},
		{"signed, but there is no key", good, nil, "no key is configured"},
	}
	for _, tt := range tests {
		c := testBundle("https://h/b.tar.gz")
		c.Keys = tt.keys
		if _, err := c.unpack(tt.raw, "b.tar.gz"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	c := testBundle("https://h/b.tar.gz")
	if _, err := c.unpack(unsigned, "b.tar.gz"); err != nil {
		t.Errorf("no key and no signature: %v", err)
	}
}

// entries are the files of a bundle.
func entries(t *testing.T, raw []byte) (list []string) {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(zip)
	for {
		h, err := r.Next()
		if err != nil {
			return list
		}
		var text bytes.Buffer
		if _, err := text.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Name, text.String())
	}
}

func repacked(t *testing.T, raw []byte, name, text string) []byte {
	list := entries(t, raw)
	for i := 0; i < len(list); i += 2 {
		if list[i] == name {
			list[i+1] = text
		}
	}
	return archived(t, list...)
}

func appended(t *testing.T, raw []byte, name, text string) []byte {
	return archived(t, append(entries(t, raw), name, text)...)
}

// A bundle with any byte changed, or cut off anywhere, is refused or means the same; nothing panics.
func TestDamagedBundles(t *testing.T) {
	noise := make([]byte, 64<<10)
	rand.Read(noise)
	data, _ := json.Marshal(map[string]any{"why": noise})
	for _, sign := range []signer{{}, newSigner(t, "ES256")} {
		raw := packed(t, "r1", sign, "mine.rego", to("local"), dataFile, string(data))
		c := testBundle("https://h/b.tar.gz")
		if sign.algorithm != "" {
			c.Keys = sign.key()
		}
		whole, err := c.unpack(raw, "b")
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for i := 0; i < len(raw); i += 1000 {
			bad := bytes.Clone(raw)
			bad[i] ^= 0x55
			f, err := c.unpack(bad, "b")
			if err != nil {
				refused++
			} else if f.content != whole.content {
				t.Errorf("byte %d changed: taken as another policy", i)
			}
			if f, err := c.unpack(raw[:i], "b"); err == nil {
				t.Errorf("cut off at %d: taken, %v", i, f.revision)
			}
		}
		if least := len(raw)/1000 - 1; refused < least {
			t.Errorf("%d of at least %d are refused", refused, least)
		}
	}
}

func TestHostileBundles(t *testing.T) {
	huge := func(size int64) []byte {
		var out bytes.Buffer
		zip := gzip.NewWriter(&out)
		w := tar.NewWriter(zip)
		_ = w.WriteHeader(&tar.Header{Name: "a.rego", Size: size, Mode: 0o600})
		_ = zip.Close() // the file's text never comes
		return out.Bytes()
	}
	many := []string{}
	for i := range maxFiles + 1 {
		many = append(many, fmt.Sprintf("f%d.rego", i), "package a")
	}
	tests := []struct {
		name string
		raw  []byte
		want string
	}{
		{"nothing", nil, "not a .tar.gz"},
		{"a page", []byte("<html>not found</html>"), "not a .tar.gz"},
		{"no files", archived(t), "holds no .rego file"},
		{"no policy", archived(t, "data.json", "{}"), "holds no .rego file"},
		{"a size that is a lie", huge(1 << 40), "unpacks to more than"},
		{"a file that does not come", huge(100), "read the archive"},
		{"too much Rego", archived(t, "a.rego", "package a\n"+strings.Repeat("# x\n", 3<<20)), "more than 8388608 bytes"},
		{"too many files", archived(t, many...), "more than 1000 files"},
		{"a file twice", archived(t, "a.rego", to("x"), "/a.rego", to("y")), "/a.rego stands in it twice"},
		{"no Rego", archived(t, "/x/a.rego", "package nexus.routes\n\na := {"), "b.tar.gz/x/a.rego:3"},
		{"bad data", archived(t, "a.rego", to("x"), "data.json", "{"), "data.json"},
		{"data outside its roots", archived(t, ".manifest", `{"revision":"x","roots":["nexus"]}`, "a.rego", to("x"), "data.json", `{"why":1}`), "roots"},
		{"a delta", archived(t, "patch.json", `{"data":[]}`), "b.tar.gz"},
		{"compiled", archived(t, "a.rego", to("x"), "policy.wasm", "\x00asm"), "holds compiled policies"},
		{"reserved data", archived(t, "a.rego", to("x"), "data.json", `{"gateway":{}}`), `the member "gateway" is reserved`},
	}
	for _, tt := range tests {
		c := testBundle("https://h/b.tar.gz")
		f, err := c.unpack(tt.raw, "b.tar.gz")
		if err == nil {
			_, err = new(Compiler).compile(t.Context(), f, testConfig())
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	c := testBundle("https://h/b.tar.gz")
	bomb := archived(t, "a.rego", to("x"), "more/data.json", `"`+strings.Repeat("a", 1000)+`"`)
	for limit, ok := range map[int64]bool{100: false, 1500: false, 2560: false, 1 << 20: true} {
		if _, err := c.survey(bomb, limit); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "unpacks to more than") {
			t.Errorf("unpacked to at most %d bytes: %v", limit, err)
		}
	}
}

func TestBundleConfigValidate(t *testing.T) {
	rs, es := newSigner(t, "RS256"), newSigner(t, "ES256")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(&small.PublicKey)
	weak := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	key := func(algorithm, text string) map[string]BundleKey {
		return map[string]BundleKey{"ops": {algorithm, setting.NewSecret(text)}}
	}
	tests := []struct {
		name string
		edit func(*BundleConfig)
		want string
	}{
		{"good", func(*BundleConfig) {}, ""},
		{"off", func(c *BundleConfig) { *c = BundleConfig{} }, ""},
		{"scheme", func(c *BundleConfig) { c.URL = "file:///etc/b.tar.gz" }, "url is not an address"},
		{"password", func(c *BundleConfig) { c.URL = "https://a:b@h/b.tar.gz" }, "url carries a password"},
		{"poll", func(c *BundleConfig) { c.Poll = time.Millisecond }, "poll is 1ms"},
		{"timeout", func(c *BundleConfig) { c.Timeout = 0 }, "timeout is 0s"},
		{"size", func(c *BundleConfig) { c.MaxSize = 1 << 40 }, "max_size is 1024GiB"},
		{"half a pair", func(c *BundleConfig) { c.TLS.Cert = "a.pem" }, "tls cert and key"},
		{"a least revision alone", func(c *BundleConfig) { c.MinRevision = "7" }, "holds back nobody while keys is empty"},
		{"scope alone", func(c *BundleConfig) { c.Scope = "write" }, "scope is a signature's"},
		{"no key", func(c *BundleConfig) { c.Keys = key("RS256", "") }, "keys.ops.key is missing"},
		{"private key", func(c *BundleConfig) { c.Keys = key("RS256", rs.private) }, "keys.ops.key is a private key"},
		{"key of another kind", func(c *BundleConfig) { c.Keys = key("RS256", es.public) }, "keys.ops.key is not a key for RS256"},
		{"curve of another size", func(c *BundleConfig) { c.Keys = key("ES384", es.public) }, "keys.ops.key is not a key for ES384"},
		{"weak key", func(c *BundleConfig) { c.Keys = key("RS256", weak) }, "of 1024 bits"},
		{"short secret", func(c *BundleConfig) { c.Keys = key("HS256", "short") }, "too short a secret"},
		{"public key as secret", func(c *BundleConfig) { c.Keys = key("HS256", rs.public) }, "is a key in PEM"},
	}
	for _, tt := range tests {
		c := testBundle("https://h/b.tar.gz")
		tt.edit(&c)
		p := setting.NewProblems()
		c.validate(p)
		got := ""
		for _, one := range p.All() {
			got += one.Path + " " + one.Text + "\n"
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// FuzzUnpack: no bytes panic or take long, and what is taken can be taken again.
func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, "r1", signer{}, "mine.rego", to("local"), dataFile, why))
	f.Add(archived(f, ".manifest", `{"revision":"x"}`, "a.rego", to("x")))
	f.Add(archived(f, "patch.json", `{}`))
	f.Add([]byte{})
	c := testBundle("https://h/b.tar.gz")
	f.Fuzz(func(t *testing.T, raw []byte) {
		one, err := c.unpack(raw, "b")
		if err != nil {
			return
		}
		two, err := c.unpack(raw, "b")
		if err != nil || one.hash != two.hash {
			t.Errorf("taken twice: %v", err)
		}
	})
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
