package plugin

import (
	"fmt"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

func TestScope(t *testing.T) {
	acme := &pipeline.Principal{ID: "k1", Tenant: "acme", Team: "red", Tier: "gold"}
	for _, tt := range []struct {
		name         string
		only, except Scope
		who          *pipeline.Principal
		want         bool
	}{
		{name: "no scope", who: acme, want: true},
		{name: "no scope, nobody", want: true},
		{name: "only its route", only: Scope{Routes: []string{"chat"}}, who: acme, want: true},
		{name: "only its route, nobody", only: Scope{Routes: []string{"chat"}}, want: true},
		{name: "only another route", only: Scope{Routes: []string{"score", "rerank"}}, who: acme},
		{name: "only its tenant", only: Scope{Tenants: []string{"other", "acme"}}, who: acme, want: true},
		{name: "only its tenant, nobody", only: Scope{Tenants: []string{"acme"}}},
		{name: "only its team", only: Scope{Teams: []string{"red"}}, who: acme, want: true},
		{name: "only another tier", only: Scope{Tiers: []string{"free"}}, who: acme},
		{name: "only its key", only: Scope{Keys: []string{"k1"}}, who: acme, want: true},
		{name: "only what holds in part", only: Scope{Keys: []string{"k1"}, Routes: []string{"score"}}, who: acme},
		{name: "except its tenant", except: Scope{Tenants: []string{"acme"}}, who: acme},
		{name: "except another tenant", except: Scope{Tenants: []string{"other"}}, who: acme, want: true},
		{name: "except a tenant, nobody", except: Scope{Tenants: []string{"acme"}}, want: true},
		{name: "except what holds in part", except: Scope{Tenants: []string{"acme"}, Routes: []string{"score"}}, who: acme, want: true},
		{name: "only and except", only: Scope{Tenants: []string{"acme"}}, except: Scope{Keys: []string{"k1"}}, who: acme},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &plugin{reach: newReach(&Entry{Only: tt.only, Except: tt.except})}
			if got := p.applies(&pipeline.Call{Route: llm.Chat, Principal: tt.who}); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestScopeValidate(t *testing.T) {
	p := setting.NewProblems()
	s := Scope{Routes: []string{"chat", "chta", "models"}, Tenants: []string{"a", ""}, Keys: make([]string, maxScope+1)}
	s.Validate(p.In("only"))
	want := `[{only.routes[1] there is no endpoint "chta"; did you mean "chat"?; there are [chat completions embeddings responses rerank score tokenize]} ` +
		`{only.routes[2] there is no endpoint "models"; there are [chat completions embeddings responses rerank score tokenize]} ` +
		`{only.tenants[1] is empty: write a name, or leave the list out} {only.keys has 1001 names; the most is 1000} ` +
		`{only.keys[0] is empty: write a name, or leave the list out}]`
	if got := fmt.Sprint(p.All()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func BenchmarkApplies(b *testing.B) {
	p := &plugin{reach: newReach(&Entry{Only: Scope{Routes: []string{"chat"}, Tenants: []string{"acme"}}})}
	c := &pipeline.Call{Route: llm.Chat, Principal: &pipeline.Principal{Tenant: "acme"}}
	b.ReportAllocs()
	for b.Loop() {
		if !p.applies(c) {
			b.Fatal("it does not")
		}
	}
}
