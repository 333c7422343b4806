package policy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
)

// A download is what the server answered.
type download struct {
	raw  []byte // nil: what was known still holds
	etag string
}

const maxFetchHeader = 64 << 10 // bytes

// fetch asks the server for the bundle, unless it still has the one with this etag; empty: any will do.
// Connections are not kept: the next question is a minute away, and certificates may be others by then.
func (c *BundleConfig) fetch(ctx context.Context, etag string) (download, error) {
	got, err := c.ask(ctx, etag)
	if err != nil {
		return download{}, fmt.Errorf("policy: fetch the bundle: %w", err)
	}
	return got, nil
}

func (c *BundleConfig) ask(ctx context.Context, etag string) (download, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	transport, err := c.transport()
	if err != nil {
		return download{}, err
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return download{}, err
	}
	request.Header.Set("User-Agent", "nexus")
	request.Header.Set("Accept", "application/gzip, application/octet-stream, */*")
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	if !c.Token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	}
	response, err := transport.RoundTrip(request) // not a client's Do: redirects are not followed
	if err != nil {
		return download{}, fmt.Errorf("%s: %w", c.address(), err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && etag != "":
		return download{etag: etag}, nil
	case response.StatusCode != http.StatusOK:
		return download{}, fmt.Errorf("%s answered %d", c.address(), response.StatusCode)
	}
	raw, err := c.read(response)
	return download{raw, response.Header.Get("Etag")}, err
}

func (c *BundleConfig) read(response *http.Response) ([]byte, error) {
	tooLarge := fmt.Errorf("%s: the bundle is larger than max_size, %v", c.address(), c.MaxSize)
	if response.ContentLength > int64(c.MaxSize) {
		return nil, tooLarge
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, int64(c.MaxSize)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: read the bundle: %w", c.address(), err)
	case len(raw) > int(c.MaxSize):
		return nil, tooLarge
	}
	return raw, nil
}

// transport is one connection's: no proxy of the environment, and certificates as the files hold them now.
func (c *BundleConfig) transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS.CA != "" {
		text, err := os.ReadFile(c.TLS.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", c.TLS.CA)
		}
	}
	if c.TLS.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Transport{
		TLSClientConfig: config, TLSHandshakeTimeout: c.Timeout, ResponseHeaderTimeout: c.Timeout,
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxFetchHeader, ForceAttemptHTTP2: true,
	}, nil
}

// address is the URL without what may be a secret.
func (c *BundleConfig) address() string { return withoutQuery(c.URL) }

// name is what the bundle is called in messages about its files.
func (c *BundleConfig) name() string { return path.Base(withoutQuery(c.URL)) }

func withoutQuery(address string) string {
	for i := range len(address) {
		if address[i] == '?' {
			return address[:i]
		}
	}
	return address
}
