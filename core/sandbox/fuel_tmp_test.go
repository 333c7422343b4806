package sandbox
import ("testing";"time";"context";"strings")
func TestFuelTmp(t *testing.T){
	text := []byte(strings.Repeat(sampleText, 11)[:1024])
	p := load(t, goGuest(t), Options{WASI: true, Limits: Limits{Deadline: time.Second}})
	g := get(t,p)
	b,_:=p.Func("buffer"); s,_:=p.Func("scan")
	at,_:=g.Call(context.Background(), b)
	g.Write(uint32(at), text)
	g.fuel=0
	g.Call(context.Background(), s, 1024)
	t.Log("fuel", g.fuel)
	g.fuel=0
	e,_:=p.Func("empty")
	g.Call(context.Background(), e)
	t.Log("fuel empty", g.fuel)
}
