package llm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// ErrOverlap says that two changes of a patch touch the same bytes.
var ErrOverlap = errors.New("llm: changes of a patch overlap")

// A Patch gathers changes to one body and applies them in one pass. The zero value changes nothing.
// What it is given to put in is copied. Reset keeps its memory for the next body.
type Patch struct {
	r       *Request // whose members are set or dropped; nil: none are
	splices []splice
	adds    []addition
	drops   []int    // indices of r's members, in order
	buf     []byte   // what splices and adds put in
	text    []byte   // a decoded text being edited
	work    []splice // what Apply applies
}

// A splice puts buf[put] in place of the body's bytes at.
type splice struct {
	at, put Span
}

// An addition is a top-level member that the body did not have.
type addition struct {
	name string
	put  Span // its value in buf
}

// Reset empties the patch for reuse.
func (p *Patch) Reset() {
	*p = Patch{splices: p.splices[:0], adds: p.adds[:0], drops: p.drops[:0],
		buf: p.buf[:0], text: p.text[:0], work: p.work[:0]}
}

// Empty reports whether the patch changes nothing.
func (p *Patch) Empty() bool { return len(p.splices)+len(p.adds)+len(p.drops) == 0 }

// Replace puts with in place of the bytes at. Overlaps are the caller's mistake and reported by Apply.
func (p *Patch) Replace(at Span, with []byte) {
	p.splices = append(p.splices, splice{at, p.keep(with)})
}

// keep copies b into the patch.
func (p *Patch) keep(b []byte) Span {
	from := len(p.buf)
	p.buf = append(p.buf, b...)
	return Span{from, len(p.buf)}
}

// SetField sets r's top-level member name to the JSON value, adding it if absent. Set twice, the last
// value holds; it also brings back a member that was dropped.
func (p *Patch) SetField(r *Request, name string, value []byte) {
	p.r = r
	put := p.keep(value)
	i := r.field(name)
	if i < 0 {
		p.add(name, put)
		return
	}
	if d, ok := slices.BinarySearch(p.drops, i); ok {
		p.drops = slices.Delete(p.drops, d, d+1)
	}
	at := r.fields[i].value
	for j := range p.splices {
		if p.splices[j].at == at {
			p.splices[j].put = put
			return
		}
	}
	p.splices = append(p.splices, splice{at, put})
}

func (p *Patch) add(name string, put Span) {
	for i := range p.adds {
		if p.adds[i].name == name {
			p.adds[i].put = put
			return
		}
	}
	p.adds = append(p.adds, addition{name, put})
}

// DropField takes the top-level member name out, with one comma. Changes inside the member go with it.
func (p *Patch) DropField(r *Request, name string) {
	p.r = r
	p.adds = slices.DeleteFunc(p.adds, func(a addition) bool { return a.name == name })
	i := r.field(name)
	if i < 0 {
		return
	}
	if d, ok := slices.BinarySearch(p.drops, i); !ok {
		p.drops = slices.Insert(p.drops, d, i)
	}
}

// Apply appends body with the changes to dst. An error leaves dst as it was.
func (p *Patch) Apply(dst, body []byte) ([]byte, error) {
	if p.Empty() {
		return append(dst, body...), nil
	}
	if p.r != nil && (len(p.r.Body) != len(body) || len(p.r.fields) == 0) {
		return dst, errors.New("llm: a patch of one request's members applied to another body")
	}
	p.work = append(p.work[:0], p.splices...)
	p.cut()
	p.join()
	slices.SortStableFunc(p.work, func(a, b splice) int { return cmp.Compare(a.at.Start, b.at.Start) })
	from := 0
	for _, s := range p.work {
		if s.at.Start < 0 || s.at.End < s.at.Start || s.at.End > len(body) {
			return dst, fmt.Errorf("llm: change of bytes %d to %d in a body of %d", s.at.Start, s.at.End, len(body))
		}
		if s.at.Start < from {
			return dst, ErrOverlap
		}
		from = s.at.End
	}
	from = 0
	for _, s := range p.work {
		dst = append(dst, body[from:s.at.Start]...)
		dst = append(dst, p.buf[s.put.Start:s.put.End]...)
		from = s.at.End
	}
	return append(dst, body[from:]...), nil
}

// Within calls f with what stands in the place of body's bytes at when the changes are applied, piece by piece.
// Members that are set or dropped are left as they were.
func (p *Patch) Within(body []byte, at Span, f func(piece []byte)) {
	p.work = append(p.work[:0], p.splices...)
	slices.SortStableFunc(p.work, func(a, b splice) int { return cmp.Compare(a.at.Start, b.at.Start) })
	from := at.Start
	for _, s := range p.work {
		if s.at.Start < from || s.at.End > at.End {
			continue
		}
		f(body[from:s.at.Start])
		f(p.buf[s.put.Start:s.put.End])
		from = s.at.End
	}
	f(body[from:at.End])
}

// cut turns each run of dropped members into one splice that takes their commas along.
func (p *Patch) cut() {
	for i := 0; i < len(p.drops); {
		first := p.drops[i]
		last := first
		for i++; i < len(p.drops) && p.drops[i] == last+1; i++ {
			last++
		}
		at := p.run(first, last)
		p.work = slices.DeleteFunc(p.work, func(s splice) bool {
			return s.at.Start >= at.Start && s.at.End <= at.End
		})
		p.work = append(p.work, splice{at: at})
	}
}

// run is where the members first to last stand, with one comma beside them if they are not all there is.
func (p *Patch) run(first, last int) Span {
	f := p.r.fields
	switch {
	case last < len(f)-1:
		return Span{f[first].key.Start, f[last+1].key.Start}
	case first > 0:
		return Span{f[first-1].value.End, f[last].value.End}
	}
	return Span{f[first].key.Start, f[last].value.End}
}

// join turns the additions into one splice behind the last member.
func (p *Patch) join() {
	if len(p.adds) == 0 {
		return
	}
	end := p.r.fields[len(p.r.fields)-1].value.End
	from := len(p.buf)
	bare := len(p.drops) == len(p.r.fields)
	for _, a := range p.adds {
		if !bare {
			p.buf = append(p.buf, ',')
		}
		bare = false
		p.buf = append(AppendString(p.buf, a.name), ':')
		p.buf = append(p.buf, p.buf[a.put.Start:a.put.End]...)
	}
	p.work = append(p.work, splice{Span{end, end}, Span{from, len(p.buf)}})
}
