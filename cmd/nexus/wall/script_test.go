package wall

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Answers of a well backend have 60 words, each a token, and are the same whoever gives them: what a caller
// gets in the end can be held against them byte for byte.
const answerWords = 60

func words() []string {
	out := make([]string, answerWords)
	for i := range out {
		out[i] = fmt.Sprintf("word%02d ", i)
	}
	return out
}

var fullText = strings.Join(words(), "")

// promptIDs are what every prompt is in tokens; word i is the token firstID+i.
var promptIDs = []int{11, 12, 13, 14, 15, 16, 17}

const firstID = 1000

// A telling is one answer on its way, which hooks lead astray.
type telling struct {
	*asked
	words   []string
	from    int // the first word to say: an answer that is continued begins later
	prompt  []int
	finish  string
	noUsage bool
	ending  string // [DONE] and what stands in its place
	pace    time.Duration
	before  map[int]func() bool // called before the word of that number; false: that was all
	frame   func(event string) bool
}

// well answers as it should.
func well(x *asked) { tell(nil)(x) }

// tell answers well but for what lead changes.
func tell(lead func(v *telling)) script {
	return func(x *asked) {
		v := &telling{asked: x, words: words(), finish: "stop", ending: "data: [DONE]\n\n", prompt: promptIDs, before: make(map[int]func() bool)}
		v.frame = func(event string) bool { return x.send(chunk(event)) }
		v.resume()
		if lead != nil {
			lead(v)
		}
		if x.body.Stream {
			v.stream()
		} else {
			v.body()
		}
	}
}

// resume finds where an answer that is continued goes on, in each way that vLLM and SGLang can be asked. An
// assistant's turn at the end that is not marked to be continued is history, and the answer begins anew.
func (v *telling) resume() {
	b := v.asked.body
	ids := b.InputIDs
	if len(b.Transfer.PromptIDs) > 0 {
		ids = b.Transfer.PromptIDs
	}
	if len(ids) > 0 {
		v.prompt, v.from = ids, len(ids)-len(promptIDs)
		return
	}
	last := message{}
	if n := len(b.Messages); n > 0 {
		last = b.Messages[n-1]
	}
	if last.Role != "assistant" || !b.ContinueFinal || b.AddPrompt == nil || *b.AddPrompt {
		return
	}
	for text := ""; text != last.Content; v.from++ {
		if v.from == len(v.words) {
			v.words = append(v.words, "THIS CONTINUES NO ANSWER") // and so it will not pass for one
			return
		}
		if text == last.Content+" " {
			v.words[v.from] = " " + v.words[v.from] // a space that was cut off comes with what follows
			return
		}
		text += v.words[v.from]
	}
}

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"

func (v *telling) stream() {
	if !v.send(streamHead) || !v.hook(-1) {
		return
	}
	if !v.event(v.choice(`{"role":"assistant","content":""}`, "", nil)) {
		return
	}
	for i := v.from; i < len(v.words); i++ {
		if !v.hook(i) || v.pace > 0 && !v.wait(v.pace) {
			return
		}
		if !v.event(v.choice(`{"content":`+quote(v.words[i])+`}`, "", []int{firstID + i})) {
			return
		}
	}
	if !v.hook(len(v.words)) || !v.event(v.choice(`{}`, v.finish, nil)) {
		return
	}
	if v.asked.body.StreamOptions.IncludeUsage && !v.noUsage && !v.event(v.usageEvent()) {
		return
	}
	if v.ending != "" && !v.frame(v.ending) {
		return
	}
	if v.hook(len(v.words) + 1) {
		v.send("0\r\n\r\n")
	}
}

// Besides those of words there are hooks before the first event, before the finish, and before the body's end.
const (
	first     = -1
	atFinish  = answerWords
	atTheEnd  = answerWords + 1
	usageText = `"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`
)

func (v *telling) hook(i int) bool {
	f := v.before[i]
	return f == nil || f()
}

func (v *telling) event(payload string) bool { return v.frame("data: " + payload + "\n\n") }

func (v *telling) top() string {
	return fmt.Sprintf(`{"id":"chatcmpl-%s-%d","object":"chat.completion.chunk","created":1,"model":%q`, v.on.name, v.n, v.asked.body.Model)
}

// choice is an event of the one choice.
func (v *telling) choice(delta, finish string, ids []int) string {
	reason := "null"
	if finish != "" {
		reason = quote(finish)
	}
	out := v.top() + `,"choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + reason
	if v.asked.body.ReturnIDs && ids != nil {
		out += `,"token_ids":` + list(ids)
	}
	out += "}]"
	if v.asked.body.ReturnIDs && ids == nil && finish == "" {
		out += `,"prompt_token_ids":` + list(v.prompt)
	}
	return out + "}"
}

func (v *telling) usageEvent() string { return v.top() + `,"choices":[],` + v.usage() + "}" }

func (v *telling) usage() string {
	said := len(v.words) - v.from
	return fmt.Sprintf(usageText, len(v.prompt), said, len(v.prompt)+said)
}

// body answers a call that is not streamed.
func (v *telling) body() {
	if !v.hook(first) {
		return
	}
	usage := ""
	if !v.noUsage {
		usage = "," + v.usage()
	}
	v.json(200, fmt.Sprintf(`{"id":"chatcmpl-%s-%d","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":%q}]%s}`,
		v.on.name, v.n, v.asked.body.Model, strings.Join(v.words[v.from:], ""), v.finish, usage))
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func list(ids []int) string { return strings.ReplaceAll(fmt.Sprint(ids), " ", ",") }

// inTurn answers the first request by the first script, and so on; the last one answers all that follow.
func inTurn(scripts ...script) script {
	return func(x *asked) { scripts[min(x.n, len(scripts))-1](x) }
}

// status answers with an error in OpenAI's shape.
func status(code int, kind, word string, header ...string) script {
	return func(x *asked) {
		x.json(code, fmt.Sprintf(`{"error":{"message":"This is what a backend says with %d.","type":%q,"param":null,"code":%q}}`, code, kind, word), header...)
	}
}

// at leads a telling astray before the word of that number.
func at(i int, do func(v *telling) bool) script {
	return tell(func(v *telling) { v.before[i] = func() bool { return do(v) } })
}

// What a telling may be led to.
func cut(v *telling) bool    { v.close(); return false }
func broken(v *telling) bool { v.reset(); return false }
func stalled(v *telling) bool {
	v.silent()
	return false
}

func later(d time.Duration) func(v *telling) bool {
	return func(v *telling) bool { return v.wait(d) }
}

// overflow refuses a prompt as too long, in the words of vLLM and of OpenAI.
func overflow(message, code string) script {
	value := "400"
	if code != "" {
		value = quote(code)
	}
	return func(x *asked) {
		x.json(400, `{"error":{"message":`+quote(message)+`,"type":"invalid_request_error","param":"messages","code":`+value+`}}`)
	}
}

// noPrefill refuses an assistant's turn at the end, in the words of a provider that does.
func noPrefill(s script) script {
	return func(x *asked) {
		if n := len(x.body.Messages); n > 0 && x.body.Messages[n-1].Role == "assistant" || len(x.body.InputIDs) > 0 || len(x.body.Transfer.PromptIDs) > 0 {
			x.json(400, `{"error":{"message":"This model does not support assistant message prefill. The conversation must end with a user message.","type":"invalid_request_error","param":"messages","code":null}}`)
			return
		}
		s(x)
	}
}
