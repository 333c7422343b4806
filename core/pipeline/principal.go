package pipeline

import "strings"

// MayUse reports whether the principal may use model. Its patterns are exact names, "*", or names that
// end in "*"; no patterns allow every model. A nil principal is nobody and may use nothing.
func (p *Principal) MayUse(model string) bool {
	if p == nil {
		return false
	}
	if len(p.Models) == 0 {
		return true
	}
	for _, pattern := range p.Models {
		stem, wild := strings.CutSuffix(pattern, "*")
		if pattern == model || wild && strings.HasPrefix(model, stem) {
			return true
		}
	}
	return false
}
