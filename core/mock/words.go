package mock

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Token ids. Words stand for themselves; other text is one id for each rune, or for up to three ASCII
// bytes, so that every text has ids and every id has its text.
const (
	idEnd       = 0
	idSystem    = 1
	idUser      = 2
	idAssistant = 3
	idTool      = 4
	idTurn      = 5
	idThink     = 6
	idThought   = 7
	idMedia     = 8

	firstWord  = 100
	firstRune  = 100_000
	firstASCII = 2_000_000
)

// words is what the model says. No word begins with another (a test holds it so), hence any row of
// words reads back as the same ids: that is what makes a continued answer exact. Korean, emoji made
// of several runes, quotes and a line break are there to hurt.
var words = strings.Split(` the| of|and then| stream| token| gateway| quick| brown| fox| jumps| over| lazy| dog| river| mountain| window`+
	`| small| large| seven| eleven| morning| evening| coffee| paper| garden| music| winter| summer| kitchen| bridge`+
	`| yellow| purple| silver| gentle| honest| careful| never| always| perhaps| because| while| under| between| against`+
	`| 안녕하세요| 반갑습니다| 오늘은| 날씨가| 좋네요| 서울| 부산에서| 김치찌개| 사람들| 그리고| 하지만| 그래서| 데이터를| 모델은| 토큰| 흐름을`+
	`| 바다| 하늘| 나무| 학교에| 친구와| 커피를| 마셨다| 읽었다| 생각했다| 아마도| 천천히| 빠르게`+
	`| 🎉| 🚀🌕| 👩‍👩‍👧| 🇰🇷| 👍🏽| ❤️|들은|에게서|에서도|습니다|ing so|ly as|, which|, that|. So|. Then|! Now|? Yes`+
	`| "quoted"| it's| 50%| <b>| a\b| naïve| Straße| façade| ελλάδα| Москва| 東京| 你好|`+"\n\n-|\n\n#"+
	`| (see| [1]| {x}| &c| 3.14| 2026| x=y| /path| @home| #tag| ~ok| ^up| $5`, "|")

// A spelling is a word with its JSON forms ready: in a string, and in a string inside a string.
type spelling struct{ text, esc, twice string }

var spellings = func() []spelling {
	out := make([]spelling, len(words))
	for i, w := range words {
		esc := escape(w)
		out[i] = spelling{w, esc, escape(esc)}
	}
	return out
}()

// starts has a bit for each pair of bytes a word begins with; index lists those words.
var starts, index = func() (bits [1024]uint64, byPair map[uint16][]int32) {
	byPair = map[uint16][]int32{}
	for i, w := range words {
		p := uint16(w[0])<<8 | uint16(w[1])
		bits[p>>6] |= 1 << (p & 63)
		byPair[p] = append(byPair[p], int32(firstWord+i))
	}
	return bits, byPair
}()

// wordAt is the word that t goes on with at i, or 0.
func wordAt(t string, i int) int32 {
	if i+1 >= len(t) {
		return 0
	}
	p := uint16(t[i])<<8 | uint16(t[i+1])
	if starts[p>>6]&(1<<(p&63)) == 0 {
		return 0
	}
	for _, id := range index[p] {
		if strings.HasPrefix(t[i:], words[id-firstWord]) {
			return id
		}
	}
	return 0
}

// tokens calls yield with the ids of t in order.
func tokens(t string, yield func(id int32)) {
	for i := 0; i < len(t); {
		if id := wordAt(t, i); id != 0 {
			yield(id)
			i += len(words[id-firstWord])
			continue
		}
		if t[i] >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(t[i:])
			yield(firstRune + int32(r))
			i += n
			continue
		}
		id, n := ascii(t, i)
		yield(id)
		i += n
	}
}

// ascii packs up to three ASCII bytes that begin no word into one id.
func ascii(t string, i int) (id int32, n int) {
	packed := int32(t[i])
	for n = 1; n < 3 && i+n < len(t) && t[i+n] < utf8.RuneSelf && wordAt(t, i+n) == 0; n++ {
		packed |= int32(t[i+n]) << (7 * n)
	}
	return firstASCII + int32(n)<<21 + packed, n
}

// textOf is the text of one id; the model's control ids have none.
func textOf(id int32) string {
	switch {
	case id >= firstASCII:
		packed := id - firstASCII
		b := make([]byte, min(int(packed>>21), 3))
		for i := range b {
			b[i] = byte(packed>>(7*i)) & 0x7f
		}
		return string(b)
	case id >= firstRune:
		return string(rune(id - firstRune))
	case id >= firstWord && int(id) < firstWord+len(words):
		return words[id-firstWord]
	}
	return ""
}

// escaped is the text of one id as it stands inside a JSON string.
func escaped(id int32) string {
	if id >= firstWord && int(id) < firstWord+len(words) {
		return spellings[id-firstWord].esc
	}
	return escape(textOf(id))
}

// escapedTwice is the text of one id as it stands in JSON that is itself inside a JSON string.
func escapedTwice(id int32) string {
	if id >= firstWord && int(id) < firstWord+len(words) {
		return spellings[id-firstWord].twice
	}
	return escape(escape(textOf(id)))
}

// escape is s as it stands inside a JSON string, without the quotes; like pydantic it leaves all but
// quotes, backslashes and control characters as they are.
func escape(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r == '"' || r == '\\' }) < 0 {
		return s
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a strings.Builder takes every write
	return strings.TrimSuffix(b.String(), "\n")[1 : b.Len()-2]
}
