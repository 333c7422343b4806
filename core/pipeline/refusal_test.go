package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestStatus(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"invalid", &Refusal{Kind: Invalid}, 400},
		{"unauthenticated", &Refusal{Kind: Unauthenticated}, 401},
		{"forbidden", &Refusal{Kind: Forbidden}, 403},
		{"not found", &Refusal{Kind: NotFound}, 404},
		{"too large", &Refusal{Kind: TooLarge}, 413},
		{"unsupported", &Refusal{Kind: Unsupported}, 415},
		{"exhausted", &Refusal{Kind: Exhausted}, 429},
		{"unavailable", &Refusal{Kind: Unavailable}, 503},
		{"bad gateway", &Refusal{Kind: BadGateway}, 502},
		{"timeout", &Refusal{Kind: GatewayTimeout}, 504},
		{"internal", &Refusal{Kind: Internal}, 500},
		{"a kind nobody knows", &Refusal{Kind: 200}, 500},
		{"its own status", &Refusal{Kind: Forbidden, Status: 451}, 451},
		{"wrapped", fmt.Errorf("stage: %w", &Refusal{Kind: Exhausted}), 429},
		{"a refusal because of a cancel", &Refusal{Kind: Unavailable, Err: context.Canceled}, 503},
		{"cancelled", fmt.Errorf("read: %w", context.Canceled), ClientGone},
		{"broken", errors.New("x"), 500},
		{"late", context.DeadlineExceeded, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Status(tt.err); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
