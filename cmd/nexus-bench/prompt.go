package main

import "strings"

// passage is ordinary text without anything that a filter looks for.
const passage = "The committee met on a bright morning and talked about the new library, its reading rooms and the long wooden tables that people like so much. 모두가 조용한 자리를 원했고, 창가의 책상은 언제나 먼저 찼다. "

const promptSize = 1 << 10 // bytes of a whole call's body

// prompt is a chat request of about 1 KB that begins with a directive and has further members.
func prompt(directive, members string) string {
	if members != "" {
		members = "," + members
	}
	head := `{"model":"mock","messages":[{"role":"system","content":"You answer briefly."},{"role":"user","content":"` + directive + " "
	tail := `"}]` + members + `,"temperature":0.7}`
	text := passage
	for len(head)+len(text)+len(tail)+len(passage) <= promptSize {
		text += passage
	}
	return head + strings.TrimSpace(text) + tail
}
