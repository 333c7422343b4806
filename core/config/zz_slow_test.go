package config
import ("testing";"strings";"time")
func TestZZSlow(t *testing.T) {
	for _, u := range []string{"?","? ","[{},","&a ","!","%","- \n","#\n","'","\"","a: b\n","{a: ","[","- ","x\n","a: |\n","a: >\n  x\n\n","- [\n","*a ","\t","\n","a:\n ","? a\n","---\n","...\n","\\","\u2028","a: &x 1\nb: *x\n", "\"\\\n", "- # c\n", "# c\n\n", "a: # c\n", "a#", "[a,#c\n", "${", "free: ["} {
		for _, pre := range []string{"", "free: ", "free:\n- ", "labels:\n  "} {
		s := pre+strings.Repeat(u, (maxFile-20)/len(u))
		start := time.Now()
		_, err := Decode("f", []byte(s), new(sample))
		if d := time.Since(start); d > 1500*time.Millisecond { m := "nil"; if err != nil { m = err.Error(); if len(m) > 80 { m = m[:80] } }; t.Logf("%q %q %v %s", pre, u, d, m) }
		}
	}
}
