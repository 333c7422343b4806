package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// Words that say what a call is about, in English and Korean.
var (
	builtCode = []string{"```", "stack trace", "traceback", "compile error", "syntax error", "refactor", "unit test", "pull request", "git diff",
		"regex", "sql query", "python", "javascript", "typescript", "golang", "rust", "java", "c++", "dockerfile", "kubernetes", "debug", "null pointer",
		"write a function", "write a script", "source code", "codebase",
		"코드", "코딩", "함수", "버그", "디버깅", "디버그", "컴파일", "리팩터링", "리팩토링", "단위 테스트", "스택 트레이스", "파이썬", "자바스크립트", "타입스크립트",
		"정규식", "정규 표현식", "쿼리를 작성", "스크립트를 작성", "알고리즘", "프로그래밍", "커밋"}
	builtReasoning = []string{"step by step", "think carefully", "think hard", "think through", "prove that", "proof", "derive", "theorem", "reason about",
		"root cause", "trade-offs", "tradeoffs", "pros and cons", "chain of thought", "solve the equation", "logic puzzle", "optimal strategy",
		"단계별로", "단계적으로", "차근차근", "깊이 생각", "신중하게 생각", "곰곰이 생각", "증명", "유도해", "유도하", "추론", "논증", "원인을 분석", "근본 원인", "장단점",
		"방정식", "수학 문제", "논리 퍼즐", "최적 전략", "심층 분석"}
	builtLongform = []string{"write an essay", "write a report", "write a novel", "write a story", "write an article", "write a blog post", "long-form", "in depth article",
		"white paper", "at least 1000 words", "2000 words", "full chapter",
		"보고서를 작성", "보고서 작성", "에세이", "논문을 작성", "소설을 써", "소설을 작성", "장문", "블로그 글", "기사를 작성", "기사 작성", "제안서를 작성", "제안서 작성", "기획서",
		"1000자 이상", "2000자", "3000자"}
	builtBackground = []string{"generate a title", "generate a concise", "write a title", "short title", "conversation title", "title for this conversation",
		"new conversation topic", "new topic", "extract a title", "suggest follow-up questions", "suggest 3-5 relevant follow-up", "generate 1-3 broad tags",
		"generate search queries", "summarize this conversation", "name this chat", "commit message",
		"제목을 생성", "제목을 지어", "제목을 만들", "제목 생성", "대화 제목", "대화의 제목", "새로운 주제인지", "주제를 분류", "태그를 생성", "후속 질문", "대화를 요약", "검색어를 생성"}
	builtTools = []string{"bash", "shell", "run_command", "execute_command", "run_terminal_cmd", "read_file", "write_file", "edit_file", "str_replace_editor", "str_replace_based_edit_tool",
		"apply_patch", "multiedit", "notebookedit", "grep_search", "codebase_search", "run_tests", "git_diff", "execute_code", "code_interpreter"}
)

func defaults() router {
	return router{
		rank:      ranks([]Profile{Background, Longform, Code, Reasoning, General}),
		longBytes: 64 << 10, longTokens: 8192, smallTokens: 64, smallBytes: 8 << 10, smallTurns: 3, codeTools: builtTools, words: builtWords(),
	}
}

func builtWords() (w words) {
	for p, list := range map[Profile][]string{Code: builtCode, Reasoning: builtReasoning, Longform: builtLongform, Background: builtBackground} {
		for _, text := range list {
			w.add(text, p)
		}
	}
	return w
}

func ranks(order []Profile) (r [profiles]uint8) {
	for i, p := range order {
		r[p] = uint8(i)
	}
	return r
}

// configure reads what the manifest's schema describes.
func (r *router) configure(config []byte) error {
	if len(config) == 0 {
		return nil
	}
	j, err := nexus.ParseJSON(config)
	if err != nil {
		return err
	}
	next := defaults()
	if own, _ := j.Get("builtin").Bool(); !own && j.Get("builtin").Kind() == nexus.KindBool {
		next.words, next.codeTools = words{}, nil
	}
	if err := j.EachMember(next.set); err != nil {
		return err
	}
	*r = next
	return nil
}

func (r *router) set(key string, v nexus.JSON) error {
	switch key {
	case "builtin":
		if v.Kind() != nexus.KindBool {
			return nexus.Error("builtin must be true or false")
		}
		return nil
	case "precedence":
		return r.setPrecedence(v)
	case "images":
		return r.setImages(v)
	case "reasoning", "longform", "code", "background":
		if v.Kind() != nexus.KindObject {
			return nexus.Error(key + " must be an object")
		}
		p, _ := profileOf(key)
		return v.EachMember(func(name string, v nexus.JSON) error { return r.setOf(p, name, v) })
	}
	return nexus.Error("unknown key " + key + ": write builtin, precedence, images, reasoning, longform, code or background")
}

func (r *router) setImages(v nexus.JSON) error {
	name, _ := v.Text()
	p, ok := profileOf(name)
	if !ok {
		return nexus.Error("images must be a profile; general: images say nothing")
	}
	r.images = p
	return nil
}

func (r *router) setPrecedence(v nexus.JSON) error {
	names, ok := v.Texts()
	var order []Profile
	seen := [profiles]bool{}
	for _, name := range names {
		p, known := profileOf(name)
		ok = ok && known && !seen[p]
		seen[p] = true
		order = append(order, p)
	}
	if !ok || len(order) != int(profiles) || order[profiles-1] != General {
		return nexus.Error("precedence must name each profile once, general last")
	}
	r.rank = ranks(order)
	return nil
}

// setOf reads one setting of a profile.
func (r *router) setOf(p Profile, name string, v nexus.JSON) error {
	switch {
	case name == "keywords":
		return r.addWords(p, v)
	case name == "tools" && p == Code:
		list, ok := v.Texts()
		if !ok {
			return nexus.Error("code.tools must be a list of names")
		}
		r.codeTools = append(r.codeTools[:len(r.codeTools):len(r.codeTools)], lower(list)...)
		return nil
	}
	for _, n := range []struct {
		of   Profile
		name string
		to   *int
	}{
		{Longform, "min_bytes", &r.longBytes}, {Longform, "min_max_tokens", &r.longTokens},
		{Background, "max_tokens", &r.smallTokens}, {Background, "max_bytes", &r.smallBytes}, {Background, "max_turns", &r.smallTurns},
	} {
		if n.of != p || n.name != name {
			continue
		}
		value, ok := v.Int()
		if !ok || value < 0 || value > 1<<30 {
			return nexus.Error(profileNames[p] + "." + name + " must be a whole number from 0 to 2^30")
		}
		*n.to = int(value)
		return nil
	}
	return nexus.Error("unknown key " + name + " of " + profileNames[p])
}

func (r *router) addWords(p Profile, v nexus.JSON) error {
	list, ok := v.Texts()
	if !ok {
		return nexus.Error(profileNames[p] + ".keywords must be a list of texts")
	}
	if len(list) > 1000 {
		return nexus.Error(profileNames[p] + ".keywords has more than 1000 words")
	}
	for _, text := range list {
		if !r.words.add(text, p) {
			return nexus.Error(profileNames[p] + ".keywords: " + text + " has no letters or more than 60")
		}
	}
	return nil
}

func lower(list []string) []string {
	for i, s := range list {
		b := []byte(s)
		for k := range b {
			b[k] = fold(b[k])
		}
		list[i] = string(b)
	}
	return list
}
