package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// ExplainConfig says who may have a live call explained.
type ExplainConfig struct {
	Roles []string `yaml:"roles" doc:"Callers with one of these roles may send the header x-nexus-explain: 1, and are told in a header of that name, for every rule, whether it claimed the call and, if not, where it failed. Empty: nobody."`
}

const (
	explainHeader = "X-Nexus-Explain"
	liveTime      = 250 * time.Millisecond // that a caller may have explaining take
	maxExplained  = 4 << 10                // bytes of the header
)

// explaining lets one call at a time be explained: it costs many times a decision, and others must not feel it.
var explaining = make(chan struct{}, 1)

// asksWhy reports whether c asks to be explained and may. It is all that calls which do not ask are put to.
func (s *Stage) asksWhy(c *pipeline.Call) bool {
	if len(s.engine.cfg.Explain.Roles) == 0 || c.Principal == nil || c.Header.Get(explainHeader) == "" {
		return false
	}
	return slices.ContainsFunc(c.Principal.Roles, func(role string) bool { return slices.Contains(s.engine.cfg.Explain.Roles, role) })
}

// tellWhy puts the explanation on the refusal that err is, or on a copy of v, which the log and the shadow policy have
// by now.
func (s *Stage) tellWhy(ctx context.Context, c *pipeline.Call, v *verdict, err error) *verdict {
	why := s.why(ctx, c)
	var r *pipeline.Refusal
	if errors.As(err, &r) {
		r.Header[explainHeader] = why
	}
	if v == nil {
		return nil
	}
	told := *v
	if told.Headers = maps.Clone(v.Headers); told.Headers == nil {
		told.Headers = map[string]string{}
	}
	told.Headers[explainHeader] = why
	return &told
}

// why says of every rule what it came to, without any value: what is in data and in backends is not the caller's.
func (s *Stage) why(ctx context.Context, c *pipeline.Call) string {
	select {
	case explaining <- struct{}{}:
		defer func() { <-explaining }()
	default:
		return "busy with another call: try again"
	}
	ctx, cancel := context.WithTimeout(ctx, liveTime)
	defer cancel()
	t := &Trial{engine: s.engine, stage: s}
	in := t.Input(c)
	var b strings.Builder
	for _, claim := range s.engine.claims {
		story, err := t.story(ctx, in, claim)
		if err != nil {
			b.WriteString("; no time for the others")
			break
		}
		b.WriteString("; " + story.brief())
	}
	return headerText(strings.TrimPrefix(b.String(), "; "))
}

// brief is a story in a few words.
func (s *RuleStory) brief() string {
	switch {
	case s.Matched:
		return s.Rule + " matched"
	case s.Error != "":
		return s.Rule + " failed"
	case len(s.Misses) == 0:
		return s.Rule + " did not match"
	}
	m := s.Misses[len(s.Misses)-1]
	return fmt.Sprintf("%s did not match: %s:%d", s.Rule, m.File[strings.LastIndexByte(m.File, '/')+1:], m.Line)
}

// headerText is s as the value of a header: printable ASCII, bounded.
func headerText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxExplained {
		return s[:maxExplained-3] + "..."
	}
	return s
}
