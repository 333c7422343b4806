package policy

// A difference is what a shadow policy would have decided otherwise.
type difference struct {
	Revision string   `json:"revision"`
	Outcome  outcome  `json:"outcome"`
	Result   *result  `json:"result,omitempty"`
	Error    string   `json:"error,omitempty"`
	Changed  []string `json:"changed"` // members of the decision that differ
}
