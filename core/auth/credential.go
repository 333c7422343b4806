package auth

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

const (
	stage    = "auth"
	expected = `send "Authorization: Bearer <key>" or "X-API-Key: <key>"`
)

// challenge is shared by every refusal and never changed.
var challenge = map[string]string{"WWW-Authenticate": "Bearer"}

func refuse(reason string) *pipeline.Refusal {
	return &pipeline.Refusal{Kind: pipeline.Unauthenticated, Stage: stage, Code: "invalid_api_key", Reason: reason, Header: challenge}
}

// shown is what a caller presented.
type shown struct {
	key string
	any bool
}

// take reads the caller's key and removes every credential from h, whatever comes of it. Two headers
// that disagree are refused, never tried one after the other.
func take(h http.Header) (shown, *pipeline.Refusal) {
	bearer, apiKey := h["Authorization"], h["X-Api-Key"]
	if odd := strip(h); odd {
		return shown{}, refuse("The API key stands in a misspelt header: " + expected + ".")
	}
	if len(bearer) > 1 || len(apiKey) > 1 {
		return shown{}, refuse("More than one API key was sent: " + expected + ", once.")
	}
	var s shown
	if len(bearer) == 1 {
		key, ok := fromBearer(bearer[0])
		if !ok {
			return shown{}, refuse("The Authorization header is malformed: " + expected + ".")
		}
		s = shown{key, true}
	}
	if len(apiKey) == 0 {
		return s, nil
	}
	if !plainKey(apiKey[0]) {
		return shown{}, refuse("The X-API-Key header is malformed: " + expected + ".")
	}
	if s.any && s.key != apiKey[0] {
		return shown{}, refuse("Authorization and X-API-Key hold different keys; send one of them.")
	}
	return shown{apiKey[0], true}, nil
}

// fromBearer returns the key of an Authorization value; the scheme's case does not matter (RFC 9110, 11.1).
func fromBearer(value string) (string, bool) {
	scheme, key, ok := strings.Cut(value, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	key = strings.TrimLeft(key, " ")
	return key, plainKey(key)
}

// plainKey reports whether s can be a key at all: visible ASCII, not too long.
func plainKey(s string) bool {
	if s == "" || len(s) > maxKey {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// credentials are the headers that carry one, in canonical form. The first two are read here; the
// others are those of other gateways, clouds and browsers, and only taken out.
var credentials = []string{
	"Authorization", "X-Api-Key",
	"Proxy-Authorization", "Cookie", "Cookie2", "Api-Key", "Apikey", "X-Apikey", "X-Auth-Token", "X-Access-Token",
	"X-Goog-Api-Key", "X-Amz-Security-Token", "Ocp-Apim-Subscription-Key", "X-Forwarded-Access-Token", "X-Id-Token",
}

// strip removes every credential from h. odd says that one that would be read here came under another
// spelling of its name (X_API_KEY), which some servers take for the same header.
func strip(h http.Header) (odd bool) {
	for name := range h {
		at := credential(name)
		if at < 0 {
			continue
		}
		odd = odd || at < 2 && name != credentials[at]
		delete(h, name)
	}
	return odd
}

// credential is the index of the credential header that name spells, -1 if it spells none.
func credential(name string) int {
	for i, c := range credentials {
		if len(c) == len(name) && sameName(c, name) {
			return i
		}
	}
	return -1
}

// sameName compares names of one length, taking case and "_" for "-" as no difference.
func sameName(a, b string) bool {
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(b byte) byte {
	switch {
	case b == '_':
		return '-'
	case b >= 'A' && b <= 'Z':
		return b + 'a' - 'A'
	}
	return b
}

// queryNames are the parameters under which clients put keys into URLs, folded.
var queryNames = []string{"api-key", "apikey", "key", "x-api-key", "access-token", "token", "auth", "authorization", "bearer"}

// RefuseQuery refuses a raw query that holds a key, without repeating it: URLs stand in logs all along
// the way. Nil: there is none.
func RefuseQuery(rawQuery string) *pipeline.Refusal {
	for rest := rawQuery; rest != ""; {
		var pair string
		if i := strings.IndexAny(rest, "&;"); i >= 0 {
			pair, rest = rest[:i], rest[i+1:]
		} else {
			pair, rest = rest, ""
		}
		name, _, _ := strings.Cut(pair, "=")
		if queryKey(name) {
			return refuse("An API key in the URL is not accepted, because URLs are written to logs: " + expected + ", and replace the key if it was real.")
		}
	}
	return nil
}

func queryKey(name string) bool {
	if strings.ContainsAny(name, "%+") {
		plain, err := url.QueryUnescape(name)
		if err != nil {
			return false
		}
		name = strings.TrimSpace(plain)
	}
	for _, q := range queryNames {
		if len(q) == len(name) && sameName(q, name) {
			return true
		}
	}
	return false
}
