package wall

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A certificate that is renewed on disk is taken without anybody's doing, and calls go on meanwhile; one that cannot be
// read changes nothing.
func TestRenewedCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, rootKey := certificate(t, "root", nil, nil)
	server, serverKey := certificate(t, "gpu.internal", root, rootKey)
	save := func(name string, c *x509.Certificate, k *ecdsa.PrivateKey) {
		t.Helper()
		writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", c.Raw)
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", der)
	}
	save("root", root, rootKey)
	first, firstKey := certificate(t, "first", root, rootKey)
	save("nexus", first, firstKey)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, wholeAnswer(r.TLS.PeerCertificates[0].Subject.CommonName))
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: serverKey}}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.StartTLS()
	t.Cleanup(s.Close)
	config := filepath.Join(dir, "nexus.yaml")
	write(t, config, fmt.Sprintf(`
auth: {keys: [{id: wall, sha256: %q, tenant: wall}]}
backends:
  main: {url: %q, tls: {ca: root.pem, cert: nexus.pem, key: nexus.key, server_name: gpu.internal}}
pools:
  main: {models: [chat], backends: [main]}
`, hash(key), s.URL))
	g := launch(t, config)
	who := func() string {
		a := g.call(context.Background(), plain)
		if !a.ok() || a.texts[0] != fullText {
			t.Fatalf("got %v", a)
		}
		for model := range a.models {
			return model
		}
		return ""
	}
	if got := who(); got != "first-model" {
		t.Fatalf("the backend saw %q", got)
	}
	second, secondKey := certificate(t, "second", root, rootKey)
	save("nexus", second, secondKey)
	waitUntil(t, 20*time.Second, "the renewed certificate is used", func() bool { return who() == "second-model" })
	write(t, filepath.Join(dir, "nexus.pem"), "no certificate")
	waitUntil(t, 20*time.Second, "the reload fails", func() bool { return g.number(t, "gateway_reload_success") == 0 })
	if got := who(); got != "second-model" {
		t.Errorf("the backend saw %q", got)
	}
}

// certificate makes one for a name, signed by an issuer; nil: by itself.
func certificate(t *testing.T, name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		by, byKey = c, k
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &k.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, k
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
