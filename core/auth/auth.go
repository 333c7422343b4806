// Package auth says who is calling: it turns an API key into a principal, and a call without a good
// key into a refusal. It is the only place that sees a caller's credentials; it takes them out of the
// call, so that nothing behind it can log or forward them.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Keys is the stage that lets in callers whose key is known. It is immutable and safe for concurrent use.
type Keys struct {
	byHash    map[[sha256.Size]byte]*record
	nobody    *record             // what an unknown key is compared with
	anonymous *pipeline.Principal // nil: callers without a key are refused
	now       func() time.Time
}

var _ pipeline.Stage = (*Keys)(nil)

// A record is one key as the stage needs it.
type record struct {
	hash     [sha256.Size]byte
	who      *pipeline.Principal
	disabled bool
	expires  time.Time // zero: never
}

const anonymousID = "anonymous"

// New reads the keys that cfg names. A file that is missing, an empty variable or a faulty entry is an
// error: without its keys the gateway does not start. decode reads the keys file.
func New(cfg Config, decode Decode) (*Keys, error) {
	list, err := cfg.entries(decode)
	if err != nil {
		return nil, err
	}
	if err := problems("all keys together", list); err != nil {
		return nil, err
	}
	if len(list) == 0 && !cfg.Anonymous {
		return nil, fmt.Errorf("auth: nobody could call: there are no keys, and anonymous is false")
	}
	k := &Keys{byHash: make(map[[sha256.Size]byte]*record, len(list)), nobody: new(record), now: time.Now}
	rand.Read(k.nobody.hash[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	if cfg.Anonymous {
		k.anonymous = &pipeline.Principal{ID: anonymousID, Kind: anonymousID, Tenant: anonymousID, Tier: anonymousID}
	}
	for i := range list {
		r := newRecord(&list[i])
		k.byHash[r.hash] = r
	}
	return k, nil
}

// newRecord takes an entry that has been checked.
func newRecord(e *Entry) *record {
	r := &record{who: e.principal(), disabled: e.Disabled}
	hex.Decode(r.hash[:], []byte(e.SHA256))
	r.expires, _ = e.expiry()
	return r
}

// Len is the number of keys known.
func (k *Keys) Len() int { return len(k.byHash) }

// Handle lets the call on with its principal set and every credential taken out of its headers, or refuses it.
func (k *Keys) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	shown, refusal := take(c.Header)
	if refusal == nil {
		refusal = RefuseQuery(c.Query)
	}
	if refusal != nil {
		return nil, refusal
	}
	who, refusal := k.identify(shown)
	if refusal != nil {
		return nil, refusal
	}
	c.Principal = who
	return next.Handle(ctx, c)
}

// identify finds whose key was shown. Unknown keys go the same way as known ones: hashed whole, looked
// up by the hash, compared in constant time; only the verdict differs.
func (k *Keys) identify(s shown) (*pipeline.Principal, *pipeline.Refusal) {
	sum := sha256.Sum256([]byte(s.key))
	r := k.byHash[sum]
	if r == nil {
		r = k.nobody
	}
	known := subtle.ConstantTimeCompare(r.hash[:], sum[:]) == 1
	switch {
	case !s.any && k.anonymous != nil:
		return k.anonymous, nil
	case !s.any:
		return nil, refuse("No API key was sent: " + expected + ".")
	case !known:
		return nil, refuse("The API key is not known.")
	case r.disabled:
		return nil, refuse("The API key is disabled.")
	case !r.expires.IsZero() && !k.now().Before(r.expires):
		return nil, refuse("The API key has expired.")
	}
	return r.who, nil
}
