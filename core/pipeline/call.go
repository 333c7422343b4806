package pipeline

import (
	"net/http"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
)

// A Call is one request on its way. Each field has one writer, named beside it; everyone else reads.
// It lives until its reply's stream is closed and is never shared between requests.
type Call struct {
	ID     string       // unique; server
	Start  time.Time    // server
	Route  llm.Endpoint // server
	Method string       // server
	Path   string       // as routed: cleaned and decoded once; server
	Model  string       // the model named in the path of /v1/models/{id}; server
	Remote string       // host of the peer; server
	Query  string       // raw query; server
	Header http.Header  // the caller's headers; server. Credentials are taken out by auth
	Body   BodyReader   // reads the body into Request when asked; server. nil: there is none
	Waiter Waiter       // server; nil: nobody need be told of waiting

	Request *llm.Request // view of the body, never nil, empty until it is read; server

	Trace     Trace             // telemetry
	Principal *Principal        // auth; nil before
	Quota     QuotaView         // quota
	Labels    map[string]string // plugin; nil: none
	PII       Findings          // plugin
	Edits     []TextEdits       // plugin: what it would change in Request.Texts, rendered per target by upstream
	Headers   http.Header       // plugin: headers to set on the reply, or to take out where the list is empty; nil: none
	Forward   http.Header       // plugin: headers to send to the backend, or not to where the list is empty; nil: none
	System    System            // plugin: what the model is told first, rendered per target by upstream
	Pool      string            // plugin: the pool to ask where the decision names no target; empty: any that serves the model
	Vault     []Token           // plugin: what stands for what in the request, put back into the reply where the decision restores
	Decision  Decision          // policy; zero: no policy stands in the chain
	Metered   bool              // quota, plugin: running usage is wanted while the answer streams
	Outcome   Outcome           // upstream
}

// A Waiter is told by upstream while a caller waits in vain for the next event of a stream, so that it can be kept from
// giving up. From the one call to the other nobody touches what a reply's head is made of: Headers and Decision.
type Waiter interface {
	WaitBegins()
	WaitEnds()
}

// A Trace is the W3C trace context of a call.
type Trace struct {
	ID     string // 32 hex digits; empty: none
	Parent string // the traceparent to send to backends; empty: none
	State  string // the tracestate to send along
}

// A System is text around the request's first system message, or a message of its own where there is none. Zero
// fields change nothing.
type System struct {
	Before, After string
	Replace       string // in place of the message's own text
}

// A Token stands for a value that was taken out of a request.
type Token struct{ Token, Value string }

// A Principal is who calls.
type Principal struct {
	ID     string // the key's id or the token's subject
	Kind   string // "key"
	Tenant string // hard partition of quota and caches
	Team   string
	Tier   string
	Roles  []string
	Labels map[string]string
	Models []string // patterns of allowed models ("*" and a trailing "*" are wild); empty: all
	Limits *Limits  // the key's own limits; nil: its tier's
}

// Limits are a principal's limits a minute; 0 is no limit.
type Limits struct {
	Requests int64 `yaml:"requests_per_minute" doc:"Requests a minute; 0 is no limit."`
	Tokens   int64 `yaml:"tokens_per_minute" doc:"Tokens a minute, prompt and completion together; 0 is no limit."`
}

// A QuotaView is what is left after admission; -1 says there is no limit.
type QuotaView struct {
	RequestsLeft int64
	TokensLeft   int64
	TokensLimit  int64 // of the minute; 0: none, or it was not counted
}

// Findings are the facts that plugins found in a request.
type Findings struct {
	Count int
	Kinds []string // sorted, without repeats: "EMAIL", "KR_RRN", …
}

// TextEdits are the edits on one of Request.Texts.
type TextEdits struct {
	Text  int // index into Request.Texts
	Edits []llm.Edit
}

// An Outcome is what came of a call at the backends.
type Outcome struct {
	Backend   string // id of the backend that answered; empty: none was reached
	Server    string // ip:port of its server, where discovery found it; empty: the backend is one server
	Pool      string // the target it was chosen from
	Model     string // the model that answered, as the backend named it
	Attempts  int
	Fallback  string        // the model asked for in its stead, where the answer is not from the first target; empty: it is
	Continued int           // times that the answer went on at another backend
	Status    int           // the backend's status
	Sent      time.Time     // when the last attempt was sent
	FirstByte time.Duration // from Sent to the first chunk
	Usage     llm.Usage     // what is known so far; final once the stream is closed
	Counted   bool          // Usage came from the backend; otherwise it is the gateway's estimate
	Finish    string        // the first choice's finish reason, or "error"
}

// A BodyReader reads a call's body and parses it into r. Its errors are refusals. It is asked once.
type BodyReader interface {
	ReadInto(r *llm.Request) error
}
