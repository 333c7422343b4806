// The SDK's own tests and fuzzing: `cc -fsanitize=address,undefined nexus_test.c nexus.c nexus_json.c`, then run it with
// the number of texts to make up (default 20000).
#include "nexus_try.h"

static int failures;

#define CHECK(ok) ((ok) ? (void)0 : (void)(failures++, fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #ok)))

// exact puts text into memory of just its size, so that a sanitizer sees any read beyond it.
static nexus_str exact(const char *at, size_t len) {
	char *b = (char *)malloc(len ? len : 1);
	if (!b)
		abort();
	if (len)
		memcpy(b, at, len);
	return (nexus_str){b, len};
}

static void drop(nexus_str s) { free((void *)(uintptr_t)s.at); }

static bool reads(const char *text) {
	nexus_str s = exact(text, strlen(text));
	bool ok = nexus_json_type(nexus_json_read(s)) != 0;
	drop(s);
	return ok;
}

static void test_json_reads(void) {
	static const char *const good[] = {"{}", "[]", " [ ] ", "0", "-0", "-1.5e+3", "1E2", "true", "null", "\"\"", "\"\\ud83d\\ude00\"",
	                                   "{\"a\":[1,{\"b\":\"c\"},null]}", "\"가\xf0\x9f\x98\x80\"", "{\"\":0,\"\":1}", "\"\\u0000\""};
	static const char *const bad[] = {"", " ", "{", "}", "[1,]", "{\"a\":1,}", "{a:1}", "{\"a\"}", "{\"a\":}", "[,1]", "01", "-", "1.", ".5",
	                                  "1e", "+1", "tru", "truex", "nul", "\"", "\"\\x\"", "\"\\u12g4\"", "\"\\ud83d\"", "\"\\ude00\"",
	                                  "\"\\ud83d\\u0041\"", "\"\n\"", "\"\x01\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"",
	                                  "\"\xf4\x90\x80\x80\"", "\"\xe0\x80\x80\"", "[1] 2", "[1}", "{\"a\":1]", "'a'", "NaN", "[1 2]", "\"\xea\xb0"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (!reads(good[i]))
			failures++, fprintf(stderr, "refused %s\n", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (reads(bad[i]))
			failures++, fprintf(stderr, "accepted %s\n", bad[i]);
	char deep[2 * (NEXUS_JSON_DEPTH + 1) + 1] = "";
	for (size_t n = NEXUS_JSON_DEPTH; n <= NEXUS_JSON_DEPTH + 1; n++) {
		memset(deep, '[', n), memset(deep + n, ']', n), deep[2 * n] = 0;
		CHECK(reads(deep) == (n <= NEXUS_JSON_DEPTH));
	}
}

static void test_json_values(void) {
	nexus_json v = nexus_json_read(nexus_s(" {\"a\" : [1, -9223372036854775808 ,9223372036854775808,1.0], \"k\\u00e9\":\"x\\ty\\ud83d\\ude00\",\"b\":true}"));
	char room[8];
	int64_t n = 0;
	bool b = false;
	nexus_json a = nexus_json_first(nexus_json_member(v, "a"));
	CHECK(nexus_json_int(a, &n) && n == 1);
	a = nexus_json_next(a);
	CHECK(nexus_json_int(a, &n) && n == INT64_MIN);
	a = nexus_json_next(a);
	CHECK(nexus_json_type(a) == '0' && !nexus_json_int(a, &n));
	a = nexus_json_next(a);
	CHECK(!nexus_json_int(a, &n) && !nexus_json_type(nexus_json_next(a)) && !nexus_json_type(nexus_json_next(nexus_json_next(a))));
	nexus_json k = nexus_json_member(v, "ké");
	CHECK(nexus_json_string(k, room, sizeof room) == 7 && !memcmp(room, "x\ty😀", 7));
	CHECK(nexus_json_string(k, room, 6) == -1 && nexus_json_key(k, room, sizeof room) == 3);
	CHECK(nexus_json_bool(nexus_json_member(v, "b"), &b) && b && !nexus_json_type(nexus_json_member(v, "c")));
	CHECK(!nexus_json_type(nexus_json_first(k)) && !nexus_json_type(nexus_json_next(v)) && nexus_json_key(v, room, 8) == -1);
}

// walk visits all that a value holds and returns how many values that are.
static size_t walk(nexus_json v) {
	char room[64];
	int64_t n;
	size_t count = 1;
	CHECK(nexus_json_type(nexus_json_read(v.text)) == nexus_json_type(v)); // a part of what was read is read
	nexus_json_string(v, room, sizeof room), nexus_json_key(v, room, sizeof room), nexus_json_int(v, &n);
	for (nexus_json x = nexus_json_first(v); nexus_json_type(x); x = nexus_json_next(x))
		count += walk(x);
	return count;
}

static uint64_t state = 88172645463325252u;

static uint32_t roll(uint32_t below) {
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (uint32_t)(state >> 32) % below;
}

// make writes a value that is JSON, and returns its end.
static char *make(char *at, int depth) {
	static const char *const leaves[] = {"1", "-0.5e9", "true", "null", "\"\"", "\"a\\n\\u00e9\\ud83d\\ude00\"", "\"가\"", "\"]},\\\"\"", " false "};
	uint32_t kind = depth ? roll(4) : 0;
	if (kind < 2) {
		const char *leaf = leaves[roll(sizeof leaves / sizeof *leaves)];
		return memcpy(at, leaf, strlen(leaf)), at + strlen(leaf);
	}
	*at++ = kind == 2 ? '[' : '{';
	for (uint32_t i = 0, n = roll(4); i < n; i++) {
		if (i)
			*at++ = ',';
		if (kind == 3)
			memcpy(at, "\"k\\\\\" :", 7), at += 7;
		at = make(at, depth - 1);
	}
	*at++ = kind == 2 ? ']' : '}';
	return at;
}

static void fuzz_json(void) {
	char text[16 << 10];
	size_t len = (size_t)(make(text, 5) - text);
	nexus_str s = exact(text, len);
	nexus_json v = nexus_json_read(s);
	CHECK(nexus_json_type(v));
	walk(v);
	drop(s);
	for (uint32_t i = 0, n = 1 + roll(4); i < n; i++) // and now damaged: whatever is read can still be walked
		text[roll((uint32_t)len)] = "\"\\{}[],:u0\x80 e-"[roll(14)];
	s = exact(text, len - roll((uint32_t)len));
	v = nexus_json_read(s);
	if (nexus_json_type(v))
		walk(v);
	drop(s);
}

static void label_all(nexus_request *r) {
	nexus_set_label(r, "model", nexus_model(r));
	nexus_set_label(r, "n", nexus_decimal(nexus_max_tokens(r), (char[NEXUS_DECIMAL]){0}));
	nexus_str rest = r->facts.records;
	for (nexus_record x; nexus_next_record(&rest, &x);)
		CHECK(x.name.at + x.name.len <= nexus_in + NEXUS_IN && x.value.at + x.value.len <= nexus_in + NEXUS_IN);
}

static void fuzz_records(void) {
	nexus_given g;
	nexus_give_head(&g, roll(2) ? NEXUS_TRY_REQUEST : 60);
	nexus_give(&g, NEXUS_IN_MODEL, "", "m");
	nexus_give(&g, 99, "name", "value");
	nexus_give(&g, NEXUS_IN_LABEL, "a", "b");
	for (uint32_t i = 0, n = roll(4); i < n; i++)
		g.bytes[roll((uint32_t)g.len)] = (uint8_t)roll(256);
	nexus_str s = exact((char *)g.bytes, g.len - roll((uint32_t)g.len)); // records in memory of just their size
	nexus_str rest = s;
	for (nexus_record r; nexus_next_record(&rest, &r);)
		CHECK(r.value.at + r.value.len == rest.at);
	drop(s);
	nexus_said said = nexus_try_request(label_all, &g);
	CHECK(said.error || said.records.len <= NEXUS_OUT);
}

static void star(nexus_text *t) {
	nexus_str b = nexus_bytes(t);
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] == 'x')
			nexus_replace(t, i, i + 1, "**", 2, 1);
	if (b.len && b.at[b.len - 1] == 'y' && !nexus_final(t))
		nexus_hold(t, 1);
}

static void hold_one(nexus_text *t) { nexus_hold(t, 1); }
static void out_of_order(nexus_text *t) { nexus_replace(t, 3, 6, "", 0, 0), nexus_replace(t, 0, 3, "", 0, 0); }
static void out_of_bounds(nexus_text *t) { nexus_replace(t, 0, 100, "", 0, 0); }
static void within(nexus_text *t) { nexus_replace(t, 0, 1, "", 0, 0); }
static void no_text(nexus_text *t) { nexus_replace(t, 0, 3, "\xff", 1, 0); }
static void say_no(nexus_text *t) { nexus_replace(t, 0, 3, "x", 1, 0), nexus_refuse(t, 0, "c", ""); }
static void give_up(nexus_text *t) { nexus_fail(t, "why"), nexus_fail(t, "not this"); }
static void too_many(nexus_text *t) {
	for (int i = 0; i <= NEXUS_EDITS; i++)
		nexus_report(t, 0, 0, 1);
}
static void too_long(nexus_text *t) {
	static const char more[NEXUS_OUT] = "";
	nexus_replace(t, 0, 3, more, 1, 0), nexus_replace(t, 3, 6, more, sizeof more, 0);
}
static bool decided;
static void hold_much(nexus_text *t) {
	decided = decided || nexus_must_decide(t);
	nexus_hold(t, nexus_final(t) || nexus_must_decide(t) ? 0 : nexus_bytes(t).len);
}

static size_t largest;
static void measure(nexus_text *t) {
	nexus_str w = nexus_window(t);
	largest = w.len > largest ? w.len : largest;
	CHECK(nexus_context(t) <= w.len && nexus_reply(t) && nexus_role(t) == NEXUS_ASSISTANT && nexus_channel(t) == NEXUS_REASONING && nexus_last_user(t));
}

static void test_text(void) {
	nexus_str pieces[] = {nexus_s("ax"), nexus_s("by"), nexus_s("y"), nexus_s("x")};
	nexus_found got = nexus_try(star, (nexus_trial){.max_hold = 0}, pieces, 4);
	CHECK(!got.error && !strcmp(got.text, "a**byy**") && got.kind_count == 2 && got.held == 1);
	static const struct {
		void (*f)(nexus_text *);
		const char *want;
	} tests[] = {{hold_one, "holds 1 bytes"},    {out_of_order, "out of order"}, {out_of_bounds, "out of bounds"}, {within, "cuts a character"},
	             {no_text, "not UTF-8"},          {say_no, "refused"},            {give_up, "failed: why"},         {too_many, "edit buffer"},
	             {too_long, "out buffer"}};
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
		nexus_str text = nexus_s("가나다라");
		got = nexus_try(tests[i].f, (nexus_trial){.max_hold = 0}, &text, 1);
		if (!got.error || !strstr(got.error, tests[i].want))
			failures++, fprintf(stderr, "got %s, want %s\n", got.error ? got.error : "no error", tests[i].want);
	}
	CHECK(nexus_try_cuts(hold_much, (nexus_trial){.max_hold = 4}, "가나다라 abc", "가나다라 abc") && decided);
	char *prompt = (char *)malloc(100001);
	memset(prompt, 'a', 100000), prompt[100000] = 0;
	nexus_trial long_one = {.context = 64, .reply = true, .last_user = true, .role = NEXUS_ASSISTANT, .channel = NEXUS_REASONING};
	CHECK(nexus_try_is(measure, long_one, (nexus_str[1]){{prompt, 100000}}, 1, prompt) && largest == NEXUS_MAX_PIECE);
	free(prompt);
}

static void on_request(nexus_request *r) {
	if (nexus_is(nexus_tier(r), "none")) {
		nexus_refuse(r, 402, "unpaid", "Pay first.");
		nexus_retry_after(r, 90000);
		return;
	}
	if (!nexus_stream(r) || nexus_choices(r) != 2 || nexus_max_tokens(r) != -1)
		nexus_fail(r, "a number is wrong");
	nexus_set_label(r, "seen", nexus_label(r, "a"));
	nexus_set_system(r, NEXUS_AFTER, nexus_s("s"));
}

static void on_tool_call(nexus_tool_call *c) {
	CHECK(nexus_is(nexus_tool_id(c), "call_1") && nexus_tool_index(c) == 1 && !nexus_schema(c).at);
	if (nexus_is(nexus_arguments(c), "{}"))
		nexus_drop(c, nexus_s("gone"));
	else
		nexus_set_arguments(c, nexus_s("{}"));
}

static void on_usage(nexus_usage *u) {
	if (nexus_usage_final(u) && nexus_usage_completion(u) > 4000000000)
		nexus_refuse(u, 429, "much", "");
}

static void on_end(nexus_end *e) {
	CHECK(nexus_end_first(e) == -1 && nexus_is(nexus_backend(e), "b"));
	nexus_metric("ended", nexus_end_status(e));
}

static void test_calls(void) {
	static nexus_given g;
	nexus_give_head(&g, NEXUS_TRY_REQUEST);
	nexus_give_u32(&g, 4, 1), nexus_give_u32(&g, 8, 2);
	nexus_give(&g, NEXUS_IN_LABEL, "a", "1");
	nexus_said s = nexus_try_request(on_request, &g);
	CHECK(!s.error && s.verdict == NEXUS_PASS && nexus_is(nexus_said_value(&s, 1, "seen"), "1") && nexus_is(nexus_said_value(&s, 12, "after"), "s"));
	nexus_give(&g, NEXUS_IN_TIER, "", "none");
	s = nexus_try_request(on_request, &g);
	CHECK(s.verdict == NEXUS_REFUSE && nexus_is(nexus_said_value(&s, 4, ""), "402") && nexus_is(nexus_said_value(&s, 5, ""), "unpaid"));
	CHECK(nexus_is(nexus_said_value(&s, 13, ""), "86400"));
	nexus_give_head(&g, NEXUS_TRY_REQUEST);
	s = nexus_try_request(on_request, &g);
	CHECK(s.error && !strcmp(s.error, "a number is wrong"));

	nexus_give_head(&g, NEXUS_TRY_TOOL_CALL);
	nexus_give_u32(&g, 12, 1);
	nexus_give(&g, NEXUS_IN_TOOL_CALL_ID, "", "call_1"), nexus_give(&g, NEXUS_IN_ARGUMENTS, "", "{\"a\":1}");
	s = nexus_try_tool_call(on_tool_call, &g);
	CHECK(s.verdict == NEXUS_PASS && nexus_is(nexus_said_value(&s, 7, ""), "{}"));

	nexus_give_head(&g, NEXUS_TRY_USAGE);
	nexus_give_u32(&g, 4, 1), nexus_give_u64(&g, 16, 5000000000);
	CHECK(nexus_try_usage(on_usage, &g).verdict == NEXUS_REFUSE);

	nexus_give_head(&g, NEXUS_TRY_END);
	nexus_give_u32(&g, 8, 200);
	nexus_give(&g, NEXUS_IN_BACKEND, "", "b");
	nexus_try_end(on_end, &g);
	CHECK(nexus_try_at(&nexus_try_host.metrics, "ended")->sum == 200);
}

static int32_t teapot(nexus_str asked, char *out, uint32_t cap) {
	nexus_facts f = {.records = asked};
	CHECK(nexus_is(nexus_value(&f, 2, ""), "https://x.test") && nexus_is(nexus_value(&f, 3, "a"), "b") && nexus_is(nexus_value(&f, 4, ""), "ping"));
	static const char back[] = "\5\0\0\0\3\0\0\0" "418" "\4\0\0\0\2\0\0\0" "hi";
	return (int32_t)(nexus_copy(out, cap, (nexus_str){back, sizeof back - 1}), sizeof back - 1);
}

static void test_host(void) {
	char room[256];
	nexus_label_set("a", nexus_s("b"));
	CHECK(nexus_is(nexus_label_get("a", room, sizeof room), "b") && !nexus_label_get("c", room, sizeof room).at && !nexus_label_get("a", room, 0).at);
	nexus_try_fact(NEXUS_IN_HEADER, "x-ask", "me");
	CHECK(nexus_is(nexus_call_get(NEXUS_IN_HEADER, "x-ask", room, sizeof room), "me"));
	CHECK(nexus_kv_incr_if(nexus_s("k"), 2, 3, 1000) == 2 && nexus_kv_incr_if(nexus_s("k"), 2, 3, 1000) == -1 && nexus_kv_get(nexus_s("k")) == 2);
	nexus_http_header header = {"a", nexus_s("b")};
	nexus_http_request ask = {NULL, "https://x.test", &header, 1, nexus_s("ping")};
	nexus_http_response got;
	CHECK(nexus_http(&ask, room, sizeof room, &got) == -2);
	nexus_try_host.http = teapot;
	CHECK(nexus_http(&ask, room, sizeof room, &got) == 418 && nexus_is(got.body, "hi"));
	CHECK(nexus_http(&ask, room, 60, &got) == -1 && nexus_http(&ask, room, 8, &got) == -1);
	char decimal[NEXUS_DECIMAL];
	CHECK(nexus_is(nexus_decimal(INT64_MIN, decimal), "-9223372036854775808") && nexus_is(nexus_decimal(0, decimal), "0"));
}

int main(int argc, char **argv) {
	test_json_reads(), test_json_values(), test_text(), test_calls(), test_host();
	for (long i = argc > 1 ? atol(argv[1]) : 20000; i > 0; i--)
		fuzz_json(), fuzz_records();
	nexus_try_done();
	puts(failures ? "FAIL" : "ok");
	return failures != 0;
}
