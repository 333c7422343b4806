package quota

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

var (
	//go:embed take.lua
	takeText string
	//go:embed settle.lua
	settleText string

	takeScript   = redis.NewScript(takeText)
	settleScript = redis.NewScript(settleText)
)

// recordLife is how long Redis remembers a reservation: longer than any settlement is retried.
const recordLife = 2 * Window

// redisStore counts in Redis, each operation one script and one round trip. A Redis that does not
// answer costs the first few calls their timeout and the others nothing: see breaker.
type redisStore struct {
	client  *redis.Client
	prefix  string
	timeout time.Duration
	window  time.Duration
	nonce   string // keeps the record names of two processes apart
	seq     atomic.Uint64
	breaker *breaker
	metrics *metrics
}

var _ Store = (*redisStore)(nil)

func openRedis(cfg Redis, m *metrics) (*redisStore, error) {
	options, err := redis.ParseURL(cfg.URL.Reveal())
	if err != nil { // not wrapped: it may repeat the address, which holds the password
		return nil, errors.New("quota: redis.url is not a redis:// or rediss:// address")
	}
	options.ContextTimeoutEnabled = true
	options.MaxRetries = -1 // a repeated script could count twice
	options.ReadTimeout, options.WriteTimeout = cfg.Timeout, cfg.Timeout
	options.PoolTimeout = cfg.Timeout / 2 // tells a pool that is too small from a Redis that is away
	options.PoolSize = cfg.PoolSize
	options.DialTimeout = cfg.DialTimeout
	options.DialerRetries = 1
	options.Protocol = 2
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	options.Dialer = (&dialGate{dial: redis.NewDialer(options)}).Dial
	redis.SetLogger(silent{}) // it writes a line for every failed dial; the stages log outages
	return &redisStore{
		client: redis.NewClient(options), prefix: cfg.KeyPrefix, timeout: cfg.Timeout, window: Window,
		nonce: rand.Text()[:12], breaker: newBreaker(m), metrics: m,
	}, nil
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// Take asks for all charges in one script.
func (s *redisStore) Take(ctx context.Context, r *Reservation) error {
	r.id = s.seq.Add(1)
	r.Taken, r.Window = false, 0
	id := s.recordID(r)
	args := make([]any, 3, 3+2*len(r.Charges))
	args[0], args[1], args[2] = s.window.Milliseconds(), recordLife.Milliseconds(), id
	for i := range r.Charges {
		args = append(args, r.Charges[i].Limit, r.Charges[i].Amount)
	}
	out, err := s.run(ctx, "take", takeScript, s.keys(id, r), args)
	if errors.Is(err, ErrDown) {
		r.id = 0 // nothing was sent, so nothing is to be undone
		return err
	}
	if err != nil {
		return fmt.Errorf("quota: take %d charges: %w", len(r.Charges), err)
	}
	if err := readTake(r, out, id); err != nil {
		return fmt.Errorf("quota: take %d charges: %w", len(r.Charges), err)
	}
	return nil
}

// readTake fills r from the script's answer, which must be the answer to this very question: a
// connection out of step would hand one tenant another's (CVE-2025-29923).
func readTake(r *Reservation, out []any, id string) error {
	if len(out) != 4+len(r.Charges) || out[0] != id {
		return errDesync
	}
	var n [3]int64
	for i := range n {
		v, ok := out[1+i].(int64)
		if !ok {
			return errDesync
		}
		n[i] = v
	}
	if n[0] == 2 {
		return errors.New("the reservation was settled before it was made")
	}
	for i := range r.Charges {
		left, ok := out[4+i].(int64)
		if !ok {
			return errDesync
		}
		r.Charges[i].Left = left
	}
	r.Taken, r.Window, r.Reset = n[0] == 1, n[1], time.Duration(n[2])*time.Millisecond
	return nil
}

var errDesync = errors.New("redis answered another question")

// Settle sends the changes of all charges in one script, which applies them once.
func (s *redisStore) Settle(ctx context.Context, r *Reservation) error {
	if r.id == 0 {
		return nil // never asked for
	}
	id := s.recordID(r)
	args := make([]any, 5, 5+len(r.Charges))
	args[0], args[1], args[2] = s.window.Milliseconds(), recordLife.Milliseconds(), id
	args[3], args[4] = r.Window, int64(2*maxLimit)
	for i := range r.Charges {
		args = append(args, r.Charges[i].Used-r.Charges[i].Amount)
	}
	out, err := s.run(ctx, "settle", settleScript, s.keys(id, r), args)
	if err == nil && (len(out) != 2 || out[0] != id) {
		err = errDesync
	}
	if err != nil {
		return fmt.Errorf("quota: settle %d charges: %w", len(r.Charges), err)
	}
	return nil
}

// Close closes the connections.
func (s *redisStore) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("quota: close redis: %w", err)
	}
	return nil
}

// run is the one way to Redis: through the breaker, within the timeout, timed and counted.
func (s *redisStore) run(ctx context.Context, op string, script *redis.Script, keys []string, args []any) ([]any, error) {
	if !s.breaker.allow() {
		return nil, ErrDown
	}
	start := time.Now()
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	out, err := script.Run(within, s.client, keys, args...).Slice()
	s.metrics.storeSeconds.WithLabelValues(op).Observe(time.Since(start).Seconds())
	switch {
	case err == nil:
		s.breaker.succeeded()
	case ctx.Err() != nil: // the caller left; that says nothing about Redis
	case errors.Is(err, redis.ErrPoolTimeout): // our own crowd does not either
		s.metrics.storeErrors.WithLabelValues(op).Inc()
	default:
		s.breaker.failed(start)
		s.metrics.storeErrors.WithLabelValues(op).Inc()
	}
	return out, err
}

func (s *redisStore) recordID(r *Reservation) string {
	return s.nonce + "-" + strconv.FormatUint(r.id, 36)
}

// keys names the record and the counters of r. Tenant and counters stand there as hashes, so that no
// text of theirs can reach another key; the tenant's is a hash tag, so that a Redis Cluster keeps all
// keys of a script in one place.
func (s *redisStore) keys(id string, r *Reservation) []string {
	tenant := s.prefix + ":{" + digest(r.Tenant) + "}:"
	keys := make([]string, 1, 1+len(r.Charges))
	keys[0] = tenant + "c:" + id
	for i := range r.Charges {
		c := r.Charges[i].Counter
		keys = append(keys, tenant+string(rune(c.Kind))+":"+digest(c.Name))
	}
	return keys
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
