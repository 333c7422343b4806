package policy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Recorded is one decision as the decision log tells it, and what the call came to where that is known.
type Recorded struct {
	DecisionID string          `json:"decision_id"`
	Revision   string          `json:"revision,omitempty"`
	Path       string          `json:"path"`
	Input      map[string]any  `json:"input,omitempty"` // nil: it was not logged
	Result     *result         `json:"result,omitempty"`
	Erased     []string        `json:"erased,omitempty"` // as /input/prompt/last_user
	Masked     []string        `json:"masked,omitempty"`
	Timestamp  time.Time       `json:"timestamp"`
	Outcome    outcome         `json:"outcome"`
	Tenant     string          `json:"tenant,omitempty"`
	Route      string          `json:"route,omitempty"`
	Shadow     json.RawMessage `json:"shadow,omitempty"` // given: the line is about a shadow policy
	Used       *Use            `json:"used,omitempty"`   // of nexus policy record
}

// input is what was decided on.
func (r *Recorded) input() (Input, error) {
	in, err := inputOf(r.Input)
	if r.Route != "" {
		in.route = r.endpoint()
	}
	return in, err
}

// A Tally is what a file of lines held.
type Tally struct {
	Records int `json:"records"`
	Others  int `json:"others"` // lines that are no decisions, such as those of the access log
	Torn    int `json:"torn"`   // lines that are cut off, such as the last one of a writer that was stopped
}

// maxLineRead is the longest line that is read, in bytes. An input has at most a few strings of some KiB.
const maxLineRead = 4 << 20

// ReadRecords reads lines as the decision log writes them, from r, which messages call name, and gives each decision to
// each, whose error ends it. Lines that are cut off are tolerated and counted; what does not even begin as JSON is an error.
func ReadRecords(name string, r io.Reader, each func(*Recorded) error) (t Tally, err error) {
	t.Torn, err = readLines(name, r, func(line []byte) error {
		var one Recorded
		if err := decodeLine(line, &one); err != nil {
			return err
		}
		if one.DecisionID == "" || one.Result == nil || one.Shadow != nil {
			t.Others++
			return nil
		}
		t.Records++
		return each(&one)
	})
	return t, err
}

// ReadUses reads the access log's lines from r and returns what each call came to, by its decision. Calls of other
// decisions than those that want reports are left out.
func ReadUses(name string, r io.Reader, want func(decision string) bool) (map[string]*Use, error) {
	uses := map[string]*Use{}
	_, err := readLines(name, r, func(line []byte) error {
		var one struct {
			DecisionID string `json:"decision_id"`
			Model      string `json:"served_model"`
			Use
		}
		if err := decodeLine(line, &one); err != nil {
			return err
		}
		if one.DecisionID == "" || !want(one.DecisionID) {
			return nil
		}
		if len(uses) == maxUses {
			return fmt.Errorf("more than %d calls", maxUses)
		}
		use := one.Use
		use.Model = one.Model
		uses[one.DecisionID] = &use
		return nil
	})
	return uses, err
}

const maxUses = 1_000_000

func decodeLine(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	return d.Decode(into)
}

// readLines gives every line that is not empty to each. torn counts those that are cut off, which are left out.
func readLines(name string, r io.Reader, each func([]byte) error) (torn int, err error) {
	b := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(b)
		if err != nil && err != io.EOF {
			return torn, fmt.Errorf("policy: %s:%d: %w", name, n, err)
		}
		switch text := bytes.TrimSpace(line); {
		case len(text) == 0:
		case text[0] == '{' && !json.Valid(text):
			torn++
		default:
			if err := each(text); err != nil {
				return torn, fmt.Errorf("policy: %s:%d: %s", name, n, strings.TrimPrefix(err.Error(), "json: "))
			}
		}
		if err == io.EOF {
			return torn, nil
		}
	}
}

// readLine reads up to the next end of a line, or to the end.
func readLine(b *bufio.Reader) (line []byte, err error) {
	for {
		part, err := b.ReadSlice('\n')
		if len(line)+len(part) > maxLineRead {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLineRead)
		}
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// Find is the decision of that id; nil when there is none.
func Find(name string, r io.Reader, id string) (found *Recorded, err error) {
	_, err = ReadRecords(name, r, func(one *Recorded) error {
		if one.DecisionID == id {
			found = one
		}
		return nil
	})
	return found, err
}
