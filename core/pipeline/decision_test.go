package pipeline

import "testing"

func TestHides(t *testing.T) {
	raw, masked := Mask{Profile: "none"}, Mask{}
	tests := []struct {
		name string
		d    Decision
		pool string
		want bool
	}{
		{"nothing is said", Decision{}, "a", true},
		{"none, wherever the model is", Decision{Mask: raw}, "a", false},
		{"none, for a target", Decision{Mask: raw, Targets: []Target{{Pool: "a"}}}, "a", false},
		{"none, for a pool that is no target", Decision{Mask: raw, Targets: []Target{{Pool: "a"}}}, "mirror", true},
		{"all but one", Decision{Mask: masked, Targets: []Target{{Pool: "a", Mask: "none"}, {Pool: "b"}}}, "a", false},
		{"the fallback", Decision{Mask: masked, Targets: []Target{{Pool: "a", Mask: "none"}, {Pool: "b"}}}, "b", true},
		{"none but one", Decision{Mask: raw, Targets: []Target{{Pool: "a"}, {Pool: "b", Mask: "all"}}}, "b", true},
	}
	for _, tt := range tests {
		if got := tt.d.Hides(tt.pool); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}
