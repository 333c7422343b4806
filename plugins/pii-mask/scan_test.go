package main

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

func TestCorpusQuick(t *testing.T) {
	f, err := os.Open("../../../shared/pii/public.jsonl")
	if err != nil {
		t.Skip()
	}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	type cnt struct{ gold, pred, hit int }
	c := map[string]*cnt{}
	for _, n := range names[1:] {
		c[n] = &cnt{}
	}
	shown := map[string]int{}
	for sc.Scan() {
		var o struct {
			Text  string
			Spans [][3]any
			Adv   [][3]any
		}
		json.Unmarshal(sc.Bytes(), &o)
		b := []byte(o.Text)
		adv := map[int]bool{}
		for _, s := range o.Adv {
			adv[int(s[0].(float64))] = true
		}
		gold := map[Match]bool{}
		for _, s := range o.Spans {
			k := kindOf(s[2].(string))
			if k != None {
				m := Match{int(s[0].(float64)), int(s[1].(float64)), k}
				gold[m] = adv[m.Start]
				if !adv[m.Start] {
					c[names[k]].gold++
				}
			}
		}
		pred := map[Match]bool{}
		for at := 0; ; {
			m := Next(b, at, true, All)
			if m.Kind == None {
				break
			}
			at = m.End
			pred[m] = true
			n := names[m.Kind]
			a, ok := gold[m]
			if ok && a {
				continue
			}
			c[n].pred++
			if ok {
				c[n].hit++
			} else if shown["FP"+n]++; shown["FP"+n] < 8 {
				t.Logf("FP %s %q…[%q]", n, b[max(0, m.Start-20):m.Start], b[m.Start:m.End])
			}
		}
		for m, a := range gold {
			if !pred[m] && !a {
				n := names[m.Kind]
				if shown["FN"+n]++; shown["FN"+n] < 12 {
					t.Logf("FN %s %q…[%q]%q", n, b[max(0, m.Start-40):m.Start], b[m.Start:m.End], b[m.End:min(len(b), m.End+8)])
				}
			}
		}
	}
	for n, x := range c {
		p, r := float64(x.hit)/float64(x.pred), float64(x.hit)/float64(x.gold)
		t.Logf("%s gold %d pred %d P %.4f R %.4f F1 %.4f", n, x.gold, x.pred, p, r, 2*p*r/(p+r))
	}
}
