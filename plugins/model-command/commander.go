package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A commander says who may choose what. It is set at load and never changes after.
type commander struct {
	enabled   bool
	allow     map[string][]string // by "key:…", "tenant:…" or "*"
	providers map[string]string   // pools by what people call them
}

// The label says what was chosen, or that nothing was: what stands at the start of a later part of the same
// message is then no command.
const (
	labelName = "model_command"
	noCommand = "none"
)

// text carries out a command at the very start of the last user message.
func (c *commander) text(t *nexus.Text) {
	b, start := t.Window()
	if !c.enabled || start > 0 || !t.LastUser() || t.Role() != nexus.User || t.Channel() != nexus.Content || t.Direction() != nexus.ToModel {
		return
	}
	allowed, configured := c.allowed()
	if !configured {
		return
	}
	if _, decided := nexus.Label(labelName); decided {
		return
	}
	command, state := Read(b, t.Final() || t.MustDecide())
	switch state {
	case Open:
		t.Hold(len(b))
	case Nothing:
		nexus.SetLabel(labelName, noCommand)
	case Malformed:
		t.Refuse(400, "model_command_malformed", "The first line is not a command: write /model MODEL or /model PROVIDER,MODEL.")
	case Complete:
		c.carryOut(t, command, allowed)
	}
}

// allowed returns what the caller may choose, and whether that is configured: the key's own list, else its
// tenant's, else everyone's.
func (c *commander) allowed() (patterns []string, configured bool) {
	if key, ok := nexus.Known(nexus.FactPrincipal, ""); ok && key != "" {
		if patterns, configured = c.allow["key:"+key]; configured {
			return patterns, true
		}
	}
	if tenant, ok := nexus.Known(nexus.FactTenant, ""); ok && tenant != "" {
		if patterns, configured = c.allow["tenant:"+tenant]; configured {
			return patterns, true
		}
	}
	patterns, configured = c.allow["*"]
	return patterns, configured
}

func (c *commander) carryOut(t *nexus.Text, command Command, allowed []string) {
	pool, known := c.providers[string(command.Provider)]
	if len(command.Provider) > 0 && !known {
		t.Refuse(403, "model_command_refused", "There is no provider named "+string(command.Provider)+" for this command.")
		return
	}
	if !permits(allowed, command) {
		t.Refuse(403, "model_command_refused", "The model "+string(command.Model)+" may not be chosen with this key.")
		return
	}
	model := string(command.Model)
	nexus.SetModel(model)
	if pool != "" {
		nexus.SetPool(pool)
	}
	nexus.SetLabel(labelName, model)
	t.Replace(0, command.End, "", 0)
}

// permits reports whether a pattern fits: one with a comma to provider and model, any other to the model alone.
func permits(patterns []string, c Command) bool {
	both := append(append(append([]byte(nil), c.Provider...), ','), c.Model...)
	for _, p := range patterns {
		name := c.Model
		for i := 0; i < len(p); i++ {
			if p[i] == ',' {
				name = both
			}
		}
		if Match(p, name) {
			return true
		}
	}
	return false
}

// configure reads {"enabled": true, "allow": {"*": ["gpt-*"]}, "providers": {"local": "pool"}}.
func (c *commander) configure(config []byte) error {
	next := commander{allow: map[string][]string{}, providers: map[string]string{}}
	if len(config) > 0 {
		j, err := nexus.ParseJSON(config)
		if err != nil {
			return err
		}
		if err := j.EachMember(next.set); err != nil {
			return err
		}
	}
	*c = next
	return nil
}

func (c *commander) set(key string, v nexus.JSON) error {
	switch key {
	case "enabled":
		on, ok := v.Bool()
		if !ok {
			return nexus.Error("enabled must be true or false")
		}
		c.enabled = on
		return nil
	case "allow":
		if v.Kind() != nexus.KindObject {
			return nexus.Error("allow must be an object of lists")
		}
		return v.EachMember(c.setAllow)
	case "providers":
		if v.Kind() != nexus.KindObject {
			return nexus.Error("providers must be an object of pools' names")
		}
		return v.EachMember(c.setProvider)
	}
	return nexus.Error("unknown key " + key + ": write enabled, allow or providers")
}

func (c *commander) setAllow(who string, v nexus.JSON) error {
	if who != "*" && !begins(who, "key:") && !begins(who, "tenant:") {
		return nexus.Error("allow: " + who + " is nobody: write key:ID, tenant:NAME or *")
	}
	patterns, ok := v.Texts()
	if !ok {
		return nexus.Error("allow: " + who + " must have a list of patterns")
	}
	c.allow[who] = patterns
	return nil
}

func begins(s, with string) bool { return len(s) > len(with) && s[:len(with)] == with }

func (c *commander) setProvider(called string, v nexus.JSON) error {
	pool, ok := v.Text()
	if !ok || pool == "" || !name([]byte(called)) {
		return nexus.Error("providers: " + called + " must be a name without spaces and commas, with the name of a pool")
	}
	c.providers[called] = pool
	return nil
}
