// Package mock is a backend without a model: it speaks vLLM's or SGLang's HTTP on real sockets, fast and
// always the same, and goes wrong on demand.
//
//	s, err := mock.New(mock.Options{Models: []string{"mock"}, Pace: 20 * time.Millisecond})
//	p, err := s.Listen("127.0.0.1:0") // p.URL; as many as wanted
//	defer s.Close()
//
// # What it answers
//
// /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings, /v1/rerank, /v1/score, /tokenize,
// /v1/models, /health, /ping, /version, /metrics, and as SGLang /v1/loads. Envelopes, statuses, event
// order and field names are the engine's: unknown models are 404 on vLLM and welcome on SGLang, errors
// are nested there and flat here, usage comes when asked for, [DONE] comes even after an in-band error.
//
// The text is a function of the prompt: each word follows from all ids before it. An answer that is
// continued — by kv_transfer_params.prompt_token_ids, input_ids, continue_final_message, or a legacy
// prompt with the text or ids so far — therefore goes on byte for byte as if undisturbed, and one that is
// continued wrongly does not. Asked for its ids (return_token_ids) it gives them. Its length counts from
// the answer's beginning, wherever it was continued. The legacy API ends by max_tokens (16).
//
// A model whose name ends in "echo" repeats the last user message, cut in places that are awkward for
// whoever filters it; one that ends in "think" reasons first, as does enable_thinking.
//
// # How to direct it
//
// The words are the same everywhere; each of these goes over the one before:
//
//	Options                      nexus mock's flags
//	SetScript, POST /mock/script tokens=60 pace=20ms
//	the prompt, its last one     [[mock tokens=60 pace=20ms fault=die-after=5]]
//	request headers              x-mock-tokens: 60
//
//	tokens=N   words in the answer        think=N   words of reasoning when asked for
//	pace=D     wait between events        ttft=D    wait before the first
//	per=N      ids in one event           echo=1    repeat the last user message
//	call=NAME  call this tool, if given   fault=F   go wrong as below
//
// # Faults
//
// Faults and their modifiers are parted by semicolons: "status=429;retry-after=2;once". Pieces are the
// events that carry text; the role and usage do not count.
//
//	die-after=N       the connection closes after N pieces; reset-after=N by a TCP reset
//	eof-after=N       the body ends cleanly after N pieces, without finish or [DONE]
//	stall-after=N     silence after N pieces, until the client leaves or for=D is over
//	error-in-band=N   an error event after N pieces, then [DONE]; code=503 in it
//	error-first       the same as the first event
//	abort-finish=N    finish_reason abort after N pieces, then [DONE]
//	status=N          this status; with retry-after=S, html
//	context-length    400, the prompt is too long; content-filter: 400, refused by a provider's filter
//	no-prefill        400 when the last message is the assistant's
//	reset             TCP reset before any byte; garbage-line: no HTTP
//	hang              accepted, never answered; headers-then-nothing; empty-200
//	html              200 with a web page
//	malformed-chunk=N one extra event of broken JSON before piece N
//	big-event=BYTES   one extra event of that size
//	bad-utf8          text that is not UTF-8
//	no-done, two-dones, trailing-garbage, no-usage
//	gzip, crlf, no-space, comments, bytewise, slow-drip=D (a byte each second, or each D)
//
//	once              only the first request with this very text of fault (once=a, once=b tell apart)
//	fresh             spares answers that are continued
//
// # What it has seen
//
// Requests and Stats, or GET /mock/requests and /mock/stats, tell what arrived and how many clients left
// early. Neither admin path has a lock on it: a mock belongs on loopback.
package mock
