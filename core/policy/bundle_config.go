package policy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/nexus-gateway/nexus/core/setting"
)

// BundleConfig names an OPA bundle on a server, and what it is held to.
type BundleConfig struct {
	URL     string               `yaml:"url" default:"" doc:"Address of an OPA bundle (.tar.gz), https:// or http://; in place of dir. Redirects are not followed."`
	Token   setting.Secret       `yaml:"token" doc:"Bearer token sent to the server."`
	TLS     BundleTLS            `yaml:"tls" doc:"Certificates for https://; read anew for each download."`
	Poll    time.Duration        `yaml:"poll" default:"1m" doc:"Time between two questions whether the bundle changed, a tenth more or less. After failures it begins at a second and doubles up to 5 minutes."`
	Timeout time.Duration        `yaml:"timeout" default:"30s" doc:"How long one download may take."`
	MaxSize setting.Size         `yaml:"max_size" default:"16MiB" doc:"Largest bundle taken, as it is sent. Unpacked it may hold 8 MiB of Rego and 64 MiB of data."`
	Keep    string               `yaml:"keep" default:"" doc:"Folder where the bundle in force is kept, for a start while the server is away; empty: such a start fails."`
	Keys    map[string]BundleKey `yaml:"keys" doc:"Keys a bundle may be signed with, by key id. With one or more, a bundle without a good signature is refused."`
	Scope   string               `yaml:"scope" default:"" doc:"Scope that the signature must have been made for; empty: none."`

	MinRevision string `yaml:"min_revision" default:"" doc:"Lowest revision taken, such as 0, where revisions rise, as build numbers and dates do: with it, a signed bundle whose revision comes before this, or before the highest that was in force or is kept, is refused. Digits are compared as numbers. Empty: any revision is taken."`
}

// BundleTLS are the certificates of one connection.
type BundleTLS struct {
	CA   string `yaml:"ca" default:"" doc:"PEM file of the authorities that the server's certificate may come from; empty: those of the system."`
	Cert string `yaml:"cert" default:"" doc:"PEM file of the certificate shown to the server."`
	Key  string `yaml:"key" default:"" doc:"PEM file of that certificate's key."`
}

// A BundleKey verifies signatures.
type BundleKey struct {
	Algorithm string         `yaml:"algorithm" default:"RS256" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA,HS256,HS384,HS512" doc:"The only algorithm that is taken with this key."`
	Key       setting.Secret `yaml:"key" doc:"Public key in PEM, such as file:/etc/nexus/bundle.pem; for HS256 and its like the shared secret."`
}

// Bounds on what may be configured.
const (
	minPoll       = time.Second
	maxTimeout    = 10 * time.Minute
	maxBundleSize = 256 << 20 // bytes
	minShared     = 32        // bytes of a shared secret
	minRSA        = 2048      // bits
)

func (c *BundleConfig) validate(p setting.Problems) {
	if c.URL == "" {
		return
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		p.Addf("url", "is not an address: write https://HOST/PATH.tar.gz")
	case u.User != nil:
		p.Addf("url", "carries a password: put the credential in token")
	case u.Fragment != "":
		p.Addf("url", "has a fragment, which is never sent")
	}
	if c.Poll < minPoll {
		p.Addf("poll", "is %v: must be at least %v", c.Poll, minPoll)
	}
	if c.Timeout <= 0 || c.Timeout > maxTimeout {
		p.Addf("timeout", "is %v: must be more than 0 and at most %v", c.Timeout, maxTimeout)
	}
	if c.MaxSize <= 0 || c.MaxSize > maxBundleSize {
		p.Addf("max_size", "is %v: must be more than 0 and at most %v", c.MaxSize, setting.Size(maxBundleSize))
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		p.Addf("tls", "cert and key go together")
	}
	if c.Scope != "" && len(c.Keys) == 0 {
		p.Addf("scope", "is a signature's, but keys is empty")
	}
	if c.MinRevision != "" && len(c.Keys) == 0 {
		p.Addf("min_revision", "holds back nobody while keys is empty: who can write an old bundle can write a new revision into it")
	}
	for _, id := range slices.Sorted(maps.Keys(c.Keys)) {
		if err := c.Keys[id].check(); err != nil {
			p.Addf("keys."+id+".key", "%v", err)
		}
	}
}

// check reports what is wrong with the key: one that OPA would only find out about when a bundle comes.
func (k BundleKey) check() error {
	text := k.Key.Reveal()
	if text == "" {
		return errors.New("is missing")
	}
	if strings.HasPrefix(k.Algorithm, "HS") {
		if len(text) < minShared {
			return fmt.Errorf("is too short a secret: at least %d bytes", minShared)
		}
		if strings.Contains(text, "-----BEGIN") {
			return fmt.Errorf("is a key in PEM, but %s takes a shared secret", k.Algorithm)
		}
		return nil
	}
	key, err := publicKey(text)
	if err != nil {
		return err
	}
	fits := false
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA {
			return fmt.Errorf("is an RSA key of %d bits: at least %d", key.N.BitLen(), minRSA)
		}
		fits = k.Algorithm[0] == 'R' || k.Algorithm[0] == 'P'
	case *ecdsa.PublicKey:
		fits = k.Algorithm == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		fits = k.Algorithm == "EdDSA"
	}
	if !fits {
		return fmt.Errorf("is not a key for %s", k.Algorithm)
	}
	return nil
}

func publicKey(text string) (any, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("is not PEM: it begins with -----BEGIN PUBLIC KEY-----")
	}
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("is a private key: the gateway needs the public one only")
	}
	return nil, fmt.Errorf("is a %s, not a public key", strings.ToLower(block.Type))
}

// verification is what OPA verifies with; nil: nothing is verified.
func (c *BundleConfig) verification() *bundle.VerificationConfig {
	if len(c.Keys) == 0 {
		return nil
	}
	keys := make(map[string]*bundle.KeyConfig, len(c.Keys))
	for id, k := range c.Keys {
		keys[id] = &bundle.KeyConfig{Key: k.Key.Reveal(), Algorithm: k.Algorithm}
	}
	return bundle.NewVerificationConfig(keys, "", c.Scope, nil)
}
