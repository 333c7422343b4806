package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// say tells the gateway.
func (c *scan) say(t *nexus.Text) {
	for _, m := range c.masks {
		c.seen |= 1 << m.list
	}
	if c.seen != 0 || c.classes != 0 {
		c.tell()
	}
	if c.blocked {
		t.Refuse(403, "content_blocked", c.g.message)
		return
	}
	for _, m := range c.masks {
		t.Replace(m.start-c.start, m.end-c.start, c.g.lists[m.list].cover, 0)
	}
	t.Hold(c.size - c.open)
}

// tell adds to the call's labels what was found, in the order of the configuration.
func (c *scan) tell() {
	had, _ := nexus.Label("prompt_guard")
	var names string
	add := func(name string, now bool) {
		if now || listed(had, name) {
			if names != "" {
				names += ","
			}
			names += name
		}
	}
	add(injection, c.classes != 0)
	for i := range c.g.lists {
		add(c.g.lists[i].name, c.seen>>i&1 != 0)
	}
	if names != had {
		nexus.SetLabel("prompt_guard", names)
	}
	if c.classes == 0 {
		return
	}
	had, _ = nexus.Label("prompt_guard_class")
	names = ""
	for i, name := range classNames {
		add(name, c.classes>>i&1 != 0)
	}
	if names != had {
		nexus.SetLabel("prompt_guard_class", names)
	}
}

// listed reports whether name is in a list parted by commas.
func listed(list, name string) bool {
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != ',' {
			i++
		}
		if list[:i] == name {
			return true
		}
		list = list[min(i+1, len(list)):]
	}
	return false
}
