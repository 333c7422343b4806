package pipeline

// A Decision is what policy says of a call. The zero value allows it and leaves the choice of backend
// to the pools that serve the model asked for.
type Decision struct {
	ID       string // decision id, shown to the caller on denial
	Revision string // names the policies that decided
	Action   Action
	Rule     string // the named rule that decided
	Reason   string
	Targets  []Target // in order of preference: the fallback chain
	Set      Set
	Headers  map[string]string // set on the reply
	Mask     Mask
	Deny     Deny // for Action Deny and Respond
	Limits   []Limit
	Tags     map[string]string // for the log
}

// An Action is a decision's verdict.
type Action string

const (
	Allow   Action = "allow"
	DenyIt  Action = "deny"
	Respond Action = "respond"
)

// A Target is a pool as a decision names it.
type Target struct {
	Pool   string
	Weight int    // share among targets of equal rank; 0: by order alone
	Mask   string // "all" or "none" for this pool; "": as the decision says
}

// Hides reports whether what plugins would hide is hidden from the backends of pool. A pool that is none of the
// targets, such as a mirror, is never shown more than the plugins let through.
func (d *Decision) Hides(pool string) bool {
	for _, t := range d.Targets {
		switch {
		case t.Pool != pool:
		case t.Mask != "":
			return t.Mask != "none"
		default:
			return d.Mask.Profile != "none"
		}
	}
	return len(d.Targets) > 0 || d.Mask.Profile != "none"
}

// Set holds what a decision changes in the request; zero fields change nothing.
type Set struct {
	Model     string
	MaxTokens int64
}

// A Mask says what becomes of the edits that plugins found.
type Mask struct {
	Profile string // "": apply edits; "none": send the text as it came
	Restore bool
}

// A Limit is a further quota that a decision lays on the call.
type Limit struct {
	Key      string
	Requests int64 // a minute; 0: none
	Tokens   int64 // a minute; 0: none
}

// A Deny is what the caller is told.
type Deny struct {
	Status  int // 0: 403
	Code    string
	Message string
}
