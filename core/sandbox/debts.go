package sandbox

import "slices"

// Debts are what functions that call none leave unpaid at their end: they are too short to be worth a look at the
// fuel of their own, but a caller that makes many calls of them would run for long on little, so it pays for them
// with the call. That takes a look at every body before the first is rewritten.
type debts struct {
	funcs []int64 // by the module's own functions
	types []int64 // the dearest of the functions of a type
}

func (d *debts) ofFunc(f int) int64 {
	if d == nil || f >= len(d.funcs) {
		return 0
	}
	return d.funcs[f]
}

func (d *debts) ofType(t uint32) int64 {
	if d == nil || int(t) >= len(d.types) {
		return 0
	}
	return d.types[t]
}

// survey finds the debts. What is wrong with a body is told when it is rewritten.
func (w *meter) survey() {
	w.debts.funcs = make([]int64, len(w.funcs)-w.imported)
	code, _ := w.section(secCode)
	r := &reader{b: w.wasm[:code.end], at: code.start}
	if code.end == 0 {
		return
	}
	for i := range min(r.count(), len(w.debts.funcs)) {
		size := r.u32()
		start := r.at
		r.take(size)
		if r.err != nil {
			break
		}
		s := w.look(&reader{b: r.b[:r.at], at: start}, w.funcs[w.imported+i], nil)
		w.bulky = w.bulky || s.bulky
		if !s.nests {
			w.debts.funcs[i] = s.leave
		}
	}
	w.debts.types = w.byType()
}

// byType is the dearest debt of each type. Types that are written twice are one.
func (w *meter) byType() []int64 {
	same, dearest := map[string][]int{}, make([]int64, len(w.types))
	key := func(s Signature) string {
		return string(slices.Concat(typeBytes(s.Params), []byte{0}, typeBytes(s.Results)))
	}
	for t, s := range w.types {
		same[key(s)] = append(same[key(s)], t)
	}
	for f, owed := range w.debts.funcs {
		if owed <= dearest[w.funcs[w.imported+f]] {
			continue
		}
		for _, t := range same[key(w.types[w.funcs[w.imported+f]])] {
			dearest[t] = owed
		}
	}
	return dearest
}
