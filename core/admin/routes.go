package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

func (a *Admin) live(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]bool{"live": true})
}

func (a *Admin) ready(w http.ResponseWriter, _ *http.Request) {
	if err := a.face.Ready(); err != nil {
		answer(w, http.StatusServiceUnavailable, notReady{Reason: err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]bool{"ready": true})
}

type notReady struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"`
}

func (a *Admin) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.face.Status())
}

// reload answers 422 with every problem when the new configuration is not taken; the old one then runs on.
func (a *Admin) reload(w http.ResponseWriter, r *http.Request) {
	generation, err := a.face.Reload(r.Context())
	if err != nil {
		answer(w, http.StatusUnprocessableEntity, fault{
			Error:    "the configuration was not taken; the running one is unchanged",
			Problems: lines(err),
		})
		return
	}
	answer(w, http.StatusOK, map[string]int64{"generation": generation})
}

// turn answers 409 with the reasons when the policy in force stays.
func (a *Admin) turn(policy func(context.Context, string) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		now, err := policy(r.Context(), r.RemoteAddr)
		if err != nil {
			answer(w, http.StatusConflict, fault{Error: "the policy in force stays", Problems: lines(err)})
			return
		}
		answer(w, http.StatusOK, now)
	}
}

// lines are the problems of err: joined errors say one a line.
func lines(err error) []string {
	var list []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

func wrongMethod(w http.ResponseWriter, r *http.Request) {
	allow := "GET, HEAD"
	if r.URL.Path == "/reload" || strings.HasPrefix(r.URL.Path, "/policy/") {
		allow = "POST"
	}
	w.Header().Set("Allow", allow)
	refuse(w, http.StatusMethodNotAllowed, "this path takes "+allow)
}

// A fault is the body of every answer that is no success.
type fault struct {
	Error    string   `json:"error"`
	Problems []string `json:"problems,omitempty"`
}

func problem(status int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, text) })
}

func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, fault{Error: text})
}

// answer encodes v before it writes anything, so that what cannot be encoded is a clean 500.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"this cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
