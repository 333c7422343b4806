package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A masker replaces what is found by placeholders. It is set at load and never changes after.
type masker struct {
	want         Set
	report       bool // leave the text as it is and report only
	placeholders [kinds]string
}

// text masks one piece of text and holds back what is still open.
func (m *masker) text(t *nexus.Text) {
	b, start := t.Window()
	final := t.Final() || t.MustDecide()
	for at := start; ; {
		found := Next(b, at, final, m.want)
		if found.Kind == None {
			t.Hold(len(b) - found.Start)
			return
		}
		m.apply(t, found, start)
		at = found.End
	}
}

func (m *masker) apply(t *nexus.Text, found Match, start int) {
	if m.report {
		t.Report(found.Start-start, found.End-start, int(found.Kind))
		return
	}
	t.Replace(found.Start-start, found.End-start, m.placeholders[found.Kind], int(found.Kind))
}

// configure reads {"kinds": ["EMAIL", …], "placeholder": "[{kind}]", "mode": "mask"}.
func (m *masker) configure(config []byte) error {
	next := masker{want: All, placeholders: fill("[{kind}]")}
	err := nexus.EachSetting(config, func(key string, value nexus.Value) error {
		switch key {
		case "kinds":
			return next.setKinds(value)
		case "placeholder":
			return next.setPlaceholder(value)
		case "mode":
			return next.setMode(value)
		}
		return nexus.Error("unknown key " + key + ": write kinds, placeholder or mode")
	})
	if err == nil {
		*m = next
	}
	return err
}

func (m *masker) setKinds(value nexus.Value) error {
	list, ok := value.Strings()
	if !ok {
		return nexus.Error("kinds must be a list of names")
	}
	m.want = 0
	for _, name := range list {
		k := kindOf(name)
		if k == None {
			return nexus.Error("unknown kind " + name + ": write EMAIL, PHONE, KR_RRN, KR_FRN or CREDIT_CARD")
		}
		m.want |= 1 << k
	}
	return nil
}

func kindOf(name string) Kind {
	for k := None + 1; k < kinds; k++ {
		if names[k] == name {
			return k
		}
	}
	return None
}

// setPlaceholder refuses what would not stand unescaped in JSON: tool arguments are masked too.
func (m *masker) setPlaceholder(value nexus.Value) error {
	text, ok := value.String()
	if !ok || text == "" || len(text) > 64 {
		return nexus.Error("placeholder must be a text of 1 to 64 bytes, such as [{kind}]")
	}
	for i := 0; i < len(text); i++ {
		if text[i] < ' ' || text[i] == '"' || text[i] == '\\' {
			return nexus.Error("placeholder must hold no quotes, backslashes or control characters")
		}
	}
	m.placeholders = fill(text)
	return nil
}

func (m *masker) setMode(value nexus.Value) error {
	text, _ := value.String()
	if text != "mask" && text != "report" {
		return nexus.Error("mode must be mask or report")
	}
	m.report = text == "report"
	return nil
}

// fill writes each kind's name for {kind} in the template.
func fill(template string) (list [kinds]string) {
	const hole = "{kind}"
	for k := None + 1; k < kinds; k++ {
		list[k] = template
		for i := 0; i+len(hole) <= len(template); i++ {
			if template[i:i+len(hole)] == hole {
				list[k] = template[:i] + names[k] + template[i+len(hole):]
				break
			}
		}
	}
	return list
}
