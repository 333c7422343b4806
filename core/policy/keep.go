package policy

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
)

func (r *Recorded) endpoint() llm.Endpoint { return llm.Endpoint(r.Route) }

// A Keeper writes decisions down for replay: of the input only what the policy reads, and nothing that the user wrote
// unless Text is set.
type Keeper struct {
	Trial *Trial          // whose policy's reads are kept
	Uses  map[string]*Use // what calls came to, by decision; nil: not known
	Text  bool            // keep input.prompt.last_user
	Every int             // keep one of so many; 0 and 1 keep all
	Most  int             // bound on the decisions kept; 0: none
	Out   io.Writer

	Kept    int // written
	NoInput int // their input was not logged
	Passed  int // left out by Every
	Dropped int // over the bound
	seen    int
}

// Keep writes r, or counts why not.
func (k *Keeper) Keep(r *Recorded) error {
	if r.Input == nil {
		k.NoInput++
		return nil
	}
	k.seen++
	switch {
	case k.Every > 1 && (k.seen-1)%k.Every != 0:
		k.Passed++
		return nil
	case k.Most > 0 && k.Kept == k.Most:
		k.Dropped++
		return nil
	}
	one := *r
	one.Input = prune(r.Input, k.Trial.engine.Reads())
	if !k.Text { // whether the policy reads it by its own name or with all that it lies in
		one.eraseText()
	}
	if use := k.Uses[r.DecisionID]; use != nil {
		one.Used = use
	}
	line, err := json.Marshal(one)
	if err != nil {
		return err
	}
	k.Kept++
	_, err = k.Out.Write(append(line, '\n'))
	return err
}

// prune is what of document lies at paths, such as input.labels.confidential.
func prune(document map[string]any, paths []string) map[string]any {
	out := map[string]any{}
	for _, path := range paths {
		parts := strings.Split(path, ".")[1:]
		if len(parts) == 0 {
			return document
		}
		graft(out, document, parts)
	}
	return out
}

// graft puts what lies at path of from into the same place of into. What holds it is put there even where it is empty: that
// there is no such label is known too.
func graft(into, from map[string]any, path []string) {
	value, ok := from[path[0]]
	if !ok {
		return
	}
	members, isObject := value.(map[string]any)
	if len(path) == 1 || !isObject {
		into[path[0]] = value
		return
	}
	below, ok := into[path[0]].(map[string]any)
	if !ok {
		below = map[string]any{}
		into[path[0]] = below
	}
	graft(below, members, path[1:])
}

// eraseText takes what users wrote out of r.
func (r *Recorded) eraseText() {
	for _, path := range paths(userText) {
		if rest, found := without(r.Input, path); found {
			r.Input, r.Erased = rest, append(slices.Clone(r.Erased), pointer(path))
		}
	}
}

// without is document without what lies at path, and whether anything lay there; document itself stays as it is.
func without(document map[string]any, path []string) (map[string]any, bool) {
	value, found := document[path[0]]
	if !found {
		return document, false
	}
	rest := maps.Clone(document)
	if len(path) == 1 {
		delete(rest, path[0])
		return rest, true
	}
	members, _ := value.(map[string]any)
	if members, found = without(members, path[1:]); !found {
		return document, false
	}
	rest[path[0]] = members
	return rest, true
}

// lacks is a path that the policy reads and r does not tell: it was not read when r was decided, or it was masked; empty
// when there is none.
func (t *Trial) lacks(r *Recorded) string {
	for _, path := range t.engine.Reads() {
		parts := strings.Split(path, ".")[1:]
		for _, hidden := range slices.Concat(r.Erased, r.Masked) {
			if at := "input" + strings.ReplaceAll(strings.TrimPrefix(hidden, "/input"), "/", "."); path == at || strings.HasPrefix(path, at+".") || strings.HasPrefix(at, path+".") {
				return at
			}
		}
		if missing := gap(inputRoot(), r.Input, parts); missing != "" {
			return "input." + missing
		}
	}
	return ""
}

// gap is the first part of path that the schema requires and document does not have; empty when there is none.
func gap(n *node, document map[string]any, path []string) string {
	if len(path) == 0 {
		for _, name := range n.Required {
			if _, ok := document[name]; !ok {
				return name
			}
		}
		return ""
	}
	value, ok := document[path[0]]
	if !ok {
		if slices.Contains(n.Required, path[0]) {
			return path[0]
		}
		return ""
	}
	members, isObject := value.(map[string]any)
	below := n.Props[path[0]]
	if !isObject || below == nil || len(below.Props) == 0 {
		return ""
	}
	if rest := gap(below, members, path[1:]); rest != "" {
		return path[0] + "." + rest
	}
	return ""
}
