package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// guard refuses what a web page in an operator's browser could send: a request under a host name that is not
// this listener's (DNS rebinding) or from another origin. It also stands before 404 and 405.
func (a *Admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		switch {
		case !a.ownHost(r.Host):
			refuse(w, http.StatusMisdirectedRequest, "this listener is not known by that host name; add it to admin.hosts")
		case !sameOrigin(r):
			refuse(w, http.StatusForbidden, "requests from web pages of another origin are refused")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost reports whether a request under hostport can be meant for this listener. An IP address always can:
// rebinding needs a name.
func (a *Admin) ownHost(hostport string) bool {
	host := hostname(hostport)
	if strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil {
		return true
	}
	return slices.ContainsFunc(a.cfg.Hosts, func(name string) bool { return strings.EqualFold(name, host) })
}

// hostname is the host of a Host header without its port, or empty if the header is not of the form HOST,
// HOST:PORT or either with an address of version 6 in brackets.
func hostname(hostport string) string {
	host, port := hostport, ""
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		host, port = hostport[:i], hostport[i+1:]
	}
	if strings.Trim(port, "0123456789") != "" {
		return ""
	}
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		return inner[:len(inner)-1]
	}
	if strings.ContainsAny(host, ":[]") {
		return ""
	}
	return host
}

// sameOrigin reports whether r comes from no page, or from one of this listener's own.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		return false
	}
	for _, origin := range r.Header["Origin"] {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	return true
}

// private asks for the token. Without one it serves on a listener that only this machine can reach.
func (a *Admin) private(next http.HandlerFunc) http.Handler {
	want := sha256.Sum256([]byte(a.cfg.Token.Reveal()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.cfg.Token.IsZero() {
			if a.local {
				next(w, r)
				return
			}
			refuse(w, http.StatusForbidden, "this listener is open to the network: set admin.token to use this path")
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(token)) // equal lengths, so that the compare tells nothing of the token's
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="admin"`)
			refuse(w, http.StatusUnauthorized, "the bearer token is missing or wrong")
			return
		}
		next(w, r)
	})
}
