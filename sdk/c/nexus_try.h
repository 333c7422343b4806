// nexus_try.h runs a C plugin's handlers as the gateway does, in a native program without one. Include it in one
// source file of the test, and compile that with nexus.c, nexus_json.c and the sanitizers that you like.
#ifndef NEXUS_TRY_H
#define NEXUS_TRY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nexus.h"

// ── the host ──

// A nexus_try_pair is a name and what stands under it, in a list of the host.
typedef struct nexus_try_pair {
	char name[128];
	char value[512];
	int64_t count; // of a counter
	double sum;    // of a metric
} nexus_try_pair;

typedef struct nexus_try_list {
	nexus_try_pair all[64];
	size_t count;
} nexus_try_list;

// nexus_try_host is the gateway as host functions see it. Set it up and look at it directly; zero it between tests.
static struct {
	nexus_try_list labels, facts; // facts: of call_get, by nexus_try_fact
	nexus_try_list vault;         // token → value
	nexus_try_list counters, metrics;
	nexus_try_list lines;         // logged, in value
	char model[512], pool[512];   // chosen by model_set, pool_set
	int64_t now;                  // Unix milliseconds

	// answers http_call: reads the records asked with, writes records to out, returns their length; NULL: not allowed
	int32_t (*http)(nexus_str asked, char *out, uint32_t cap);
} nexus_try_host;

static void nexus_try_text_(char *to, size_t cap, const char *at, size_t len) {
	if (len >= cap) {
		fprintf(stderr, "nexus_try: %zu bytes where %zu are room\n", len, cap - 1);
		abort();
	}
	if (len)
		memcpy(to, at, len);
	to[len] = 0;
}

static nexus_try_pair *nexus_try_at(nexus_try_list *l, const char *name) {
	for (size_t i = 0; i < l->count; i++)
		if (!strcmp(l->all[i].name, name))
			return &l->all[i];
	return NULL;
}

static nexus_try_pair *nexus_try_make_(nexus_try_list *l, const char *name, size_t len) {
	char z[sizeof l->all[0].name];
	nexus_try_text_(z, sizeof z, name, len);
	nexus_try_pair *p = nexus_try_at(l, z);
	if (!p) {
		if (l->count == sizeof l->all / sizeof *l->all)
			abort();
		p = &l->all[l->count++];
		memset(p, 0, sizeof *p);
		memcpy(p->name, z, sizeof z);
	}
	return p;
}

static inline void nexus_try_put(nexus_try_list *l, const char *name, const char *value) {
	nexus_try_pair *p = nexus_try_make_(l, name, strlen(name));
	nexus_try_text_(p->value, sizeof p->value, value, strlen(value));
}

// nexus_try_fact says what call_get knows under id and name.
static inline void nexus_try_fact(uint32_t id, const char *name, const char *value) {
	char key[128];
	snprintf(key, sizeof key, "%u %s", id, name);
	nexus_try_put(&nexus_try_host.facts, key, value);
}

static int32_t nexus_try_get_(nexus_try_list *l, const char *name, char *out, uint32_t cap) {
	nexus_try_pair *p = nexus_try_at(l, name);
	return p ? (nexus_copy(out, cap, nexus_s(p->value)), (int32_t)strlen(p->value)) : -1;
}

void nexus_host_log(const char *at, uint32_t len) {
	nexus_try_list *l = &nexus_try_host.lines;
	if (l->count < sizeof l->all / sizeof *l->all)
		nexus_try_text_(l->all[l->count++].value, sizeof l->all->value, at, len);
}

int32_t nexus_host_label_get(const char *name, uint32_t len, char *out, uint32_t cap) {
	char z[128];
	nexus_try_text_(z, sizeof z, name, len);
	return nexus_try_get_(&nexus_try_host.labels, z, out, cap);
}

void nexus_host_label_set(const char *name, uint32_t len, const char *value, uint32_t value_len) {
	nexus_try_pair *p = nexus_try_make_(&nexus_try_host.labels, name, len);
	nexus_try_text_(p->value, sizeof p->value, value, value_len);
}

int32_t nexus_host_call_get(uint32_t id, const char *name, uint32_t len, char *out, uint32_t cap) {
	char z[128];
	snprintf(z, sizeof z, "%u %.*s", id, (int)len, name);
	return nexus_try_get_(&nexus_try_host.facts, z, out, cap);
}

void nexus_host_model_set(const char *at, uint32_t len) {
	nexus_try_text_(nexus_try_host.model, sizeof nexus_try_host.model, at, len);
}

void nexus_host_pool_set(const char *at, uint32_t len) {
	nexus_try_text_(nexus_try_host.pool, sizeof nexus_try_host.pool, at, len);
}

int64_t nexus_host_kv_get(const char *key, uint32_t len) {
	return nexus_try_make_(&nexus_try_host.counters, key, len)->count;
}

int64_t nexus_host_kv_incr_if(const char *key, uint32_t len, int64_t amount, int64_t limit, int64_t ttl_ms) {
	nexus_try_pair *p = nexus_try_make_(&nexus_try_host.counters, key, len);
	int64_t now = p->count + amount;
	(void)ttl_ms;
	if (now > limit)
		return -1;
	return p->count = now < 0 ? 0 : now;
}

void nexus_host_vault_put(const char *value, uint32_t value_len, const char *token, uint32_t token_len) {
	nexus_try_pair *p = nexus_try_make_(&nexus_try_host.vault, token, token_len);
	nexus_try_text_(p->value, sizeof p->value, value, value_len);
}

void nexus_host_metric(const char *name, uint32_t len, double amount) {
	nexus_try_make_(&nexus_try_host.metrics, name, len)->sum += amount;
}

int64_t nexus_host_now_ms(void) { return nexus_try_host.now; }

// nexus_host_random gives the same bytes every time.
void nexus_host_random(void *at, uint32_t len) {
	for (uint32_t i = 0; i < len; i++)
		((uint8_t *)at)[i] = (uint8_t)(i * 167 + 13);
}

int32_t nexus_host_http_call(const char *at, uint32_t len, char *out, uint32_t cap) {
	return nexus_try_host.http ? nexus_try_host.http((nexus_str){at, len}, out, cap) : -2;
}

// ── texts ──

// A nexus_trial is what the manifest would say, and what text it is.
typedef struct nexus_trial {
	size_t context;  // bytes of what went before that are shown
	size_t max_hold; // 0: 256
	bool reply, last_user;
	int role, channel;
} nexus_trial;

// A nexus_found is what came out. It is used again by the next nexus_try.
typedef struct nexus_found {
	const char *error;   // NULL, or why the gateway would not believe the plugin, or what the plugin said
	const char *text;    // what was let go, with a zero behind it
	size_t len;
	const uint32_t *kinds; // of edits and reports, in order
	size_t kind_count;
	size_t held;         // the most bytes that were held back at once
	bool refused;
} nexus_found;

static struct {
	char *text, *input; // let go, and all that came
	size_t len, cap, input_len, input_cap;
	uint32_t *kinds;
	size_t kind_count, kind_cap;
	char error[512];
} nexus_try_;

static void *nexus_try_room_(void *at, size_t *cap, size_t want, size_t size) {
	if (want > *cap) {
		*cap = want * 2;
		at = realloc(at, *cap * size);
		if (!at)
			abort();
	}
	return at;
}

static void nexus_try_append_(const char *at, size_t n) {
	nexus_try_.text = (char *)nexus_try_room_(nexus_try_.text, &nexus_try_.cap, nexus_try_.len + n + 1, 1);
	if (n)
		memcpy(nexus_try_.text + nexus_try_.len, at, n);
	nexus_try_.text[nexus_try_.len += n] = 0;
}

// nexus_try_cut says whether the text may be cut at i.
static bool nexus_try_cut(const char *at, size_t len, size_t i) { return i == len || (i < len && (at[i] & 0xc0) != 0x80); }

static bool nexus_try_utf8_(const char *at, size_t len) {
	for (size_t i = 0; i < len;) {
		uint8_t c = (uint8_t)at[i];
		size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
		uint8_t next = i + 1 < len ? (uint8_t)at[i + 1] : 0;
		if (!n || n > len - i || (c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f) || (c == 0xf0 && next < 0x90) ||
		    (c == 0xf4 && next > 0x8f))
			return false;
		for (size_t k = 1; k < n; k++)
			if ((at[i + k] & 0xc0) != 0x80)
				return false;
		i += n;
	}
	return true;
}

#define NEXUS_TRY_FAIL_(...) return snprintf(nexus_try_.error, sizeof nexus_try_.error, __VA_ARGS__), false

// nexus_try_release_ makes the edits on the part of text that is let go.
static bool nexus_try_release_(nexus_str text, size_t released, size_t edits) {
	size_t at = 0, last = 0;
	for (size_t i = 0; i < edits; i++) {
		const uint32_t *e = nexus_edits + i * 5;
		if (e[0] < last || e[1] < e[0] || e[1] > released)
			NEXUS_TRY_FAIL_("edit [%u, %u) is out of order, out of bounds or held: %zu bytes are let go", e[0], e[1], released);
		if (!nexus_try_cut(text.at, text.len, e[0]) || !nexus_try_cut(text.at, text.len, e[1]))
			NEXUS_TRY_FAIL_("edit [%u, %u) cuts a character", e[0], e[1]);
		last = e[1];
		if (e[4]) {
			nexus_try_.kinds = (uint32_t *)nexus_try_room_(nexus_try_.kinds, &nexus_try_.kind_cap, nexus_try_.kind_count + 1, 4);
			nexus_try_.kinds[nexus_try_.kind_count++] = e[4];
		}
		if (e[3] == 0xffffffff)
			continue;
		if (e[2] > NEXUS_OUT || e[3] > NEXUS_OUT - e[2] || !nexus_try_utf8_(nexus_out + e[2], e[3]))
			NEXUS_TRY_FAIL_("the replacement of [%u, %u) is not UTF-8", e[0], e[1]);
		nexus_try_append_(text.at + at, e[0] - at);
		nexus_try_append_(nexus_out + e[2], e[3]);
		at = e[1];
	}
	nexus_try_append_(text.at + at, released - at);
	return true;
}

typedef struct nexus_try_run_ {
	void (*f)(nexus_text *);
	nexus_trial o;
	size_t at;  // bytes of the input that are let go
	nexus_found found;
} nexus_try_run_;

static size_t nexus_try_start_(size_t i) {
	while (i > 0 && !nexus_try_cut(nexus_try_.input, nexus_try_.input_len, i))
		i--;
	return i;
}

// nexus_try_ask_ asks about the input from r->at to end, and lets go what is not held.
static bool nexus_try_ask_(nexus_try_run_ *r, size_t from, size_t end, uint32_t flags) {
	nexus_str text = {nexus_try_.input + r->at, end - r->at};
	uint64_t w;
	size_t hold;
	for (;; flags |= 4) {
		memset(nexus_in, 0xee, sizeof nexus_in);
		memcpy(nexus_in, nexus_try_.input + from, end - from);
		w = nexus_run_text((uint32_t)(end - from), flags | (uint32_t)(r->at - from) << 16, r->f);
		hold = (uint32_t)w;
		if (w >> 40 & 0xff)
			NEXUS_TRY_FAIL_("the plugin failed: %.*s", (int)hold, nexus_out);
		r->found.refused = (w >> 32 & 0xff) == NEXUS_REFUSE;
		if (r->found.refused)
			NEXUS_TRY_FAIL_("the plugin refused");
		if (hold <= r->o.max_hold || flags & 4)
			break;
	}
	if (hold > text.len || hold > r->o.max_hold || (flags & 2 && hold))
		NEXUS_TRY_FAIL_("the plugin holds %zu bytes of %zu (final: %d)", hold, text.len, (int)(flags >> 1 & 1));
	if (!nexus_try_cut(text.at, text.len, text.len - hold))
		NEXUS_TRY_FAIL_("what is held cuts a character");
	if (!nexus_try_release_(text, text.len - hold, (size_t)(w >> 48)))
		return false;
	r->found.held = hold > r->found.held ? hold : r->found.held;
	r->at = end - hold;
	return true;
}

// nexus_try_feed_ adds a piece; what is longer than a handler is asked about at once goes in several.
static bool nexus_try_feed_(nexus_try_run_ *r, nexus_str piece, bool final) {
	const nexus_trial *o = &r->o;
	uint32_t base = (uint32_t)o->reply | (uint32_t)o->last_user << 3 | (uint32_t)o->role << 4 | (uint32_t)o->channel << 8;
	nexus_try_.input = (char *)nexus_try_room_(nexus_try_.input, &nexus_try_.input_cap, nexus_try_.input_len + piece.len + 1, 1);
	nexus_copy(nexus_try_.input + nexus_try_.input_len, piece.len, piece);
	nexus_try_.input_len += piece.len;
	for (bool more = true; more;) {
		size_t from = nexus_try_start_(r->at > o->context ? r->at - o->context : 0);
		size_t end = nexus_try_.input_len;
		more = end - from > NEXUS_MAX_PIECE;
		if (more)
			end = nexus_try_start_(from + NEXUS_MAX_PIECE);
		if (end > r->at && !nexus_try_ask_(r, from, end, base | (uint32_t)(final && !more) << 1))
			return false;
	}
	return true;
}

// nexus_try runs f on one text that comes in pieces. No piece may end within a character.
static inline nexus_found nexus_try(void (*f)(nexus_text *), nexus_trial o, const nexus_str *pieces, size_t count) {
	nexus_try_run_ r = {.f = f, .o = o};
	bool ok = true;
	nexus_try_.len = nexus_try_.input_len = nexus_try_.kind_count = 0;
	if (!r.o.max_hold)
		r.o.max_hold = 256;
	nexus_try_append_("", 0);
	for (size_t i = 0; ok && i < count; i++)
		ok = nexus_try_feed_(&r, pieces[i], i == count - 1);
	r.found.error = ok ? NULL : nexus_try_.error;
	r.found.text = nexus_try_.text, r.found.len = nexus_try_.len;
	r.found.kinds = nexus_try_.kinds, r.found.kind_count = nexus_try_.kind_count;
	return r.found;
}

// nexus_try_is says, on stderr too, whether a text in these pieces comes out as want.
static inline bool nexus_try_is(void (*f)(nexus_text *), nexus_trial o, const nexus_str *pieces, size_t count, const char *want) {
	nexus_found got = nexus_try(f, o, pieces, count);
	if (!got.error && got.len == strlen(want) && !memcmp(got.text, want, got.len))
		return true;
	fprintf(stderr, "%zu pieces, the first %.*s|: got %s%s, want %s\n", count, (int)pieces->len, pieces->at,
	        got.error ? "the error: " : "", got.error ? got.error : got.text, want);
	return false;
}

// nexus_try_cuts tries the law: wherever text is cut, in two or at every character, want comes out.
static inline bool nexus_try_cuts(void (*f)(nexus_text *), nexus_trial o, const char *text, const char *want) {
	size_t len = strlen(text), count = 0, from = 0;
	nexus_str *each = (nexus_str *)calloc(len + 1, sizeof *each);
	bool ok = each != NULL;
	for (size_t i = 0; ok && i <= len; i++) {
		if (!nexus_try_cut(text, len, i))
			continue;
		ok = nexus_try_is(f, o, (nexus_str[2]){{text, i}, {text + i, len - i}}, 2, want);
		if (i > from)
			each[count++] = (nexus_str){text + from, i - from};
		from = i;
	}
	ok = ok && (!count || nexus_try_is(f, o, each, count, want));
	free(each);
	return ok;
}

// ── the other hooks ──

// A nexus_given is what a handler is told: a head, of NEXUS_TRY_REQUEST… bytes, and records.
enum { NEXUS_TRY_REQUEST = 44, NEXUS_TRY_TOOL_CALL = 16, NEXUS_TRY_USAGE = 40, NEXUS_TRY_END = 64 };
typedef struct nexus_given {
	uint8_t bytes[64 << 10];
	size_t len;
} nexus_given;

// nexus_give_head begins anew. Fields are as nexus.h reads them: nexus_give_u32(&g, 12, 3) gives a request 3 turns.
static inline void nexus_give_head(nexus_given *g, uint32_t size) {
	memset(g, 0, sizeof *g);
	g->len = size;
	g->bytes[0] = (uint8_t)size;
	if (size == NEXUS_TRY_REQUEST)
		memset(g->bytes + 32, 0xff, 8); // max_tokens: not given
	if (size == NEXUS_TRY_END)
		memset(g->bytes + 56, 0xff, 8); // first: none
}

static inline void nexus_give_u32(nexus_given *g, size_t at, uint32_t v) {
	for (int i = 0; i < 4; i++)
		g->bytes[at + (size_t)i] = (uint8_t)(v >> 8 * i);
}

static inline void nexus_give_u64(nexus_given *g, size_t at, uint64_t v) {
	nexus_give_u32(g, at, (uint32_t)v);
	nexus_give_u32(g, at + 4, (uint32_t)(v >> 32));
}

// nexus_give adds a record: nexus_give(&g, NEXUS_IN_MODEL, "", "m").
static inline void nexus_give(nexus_given *g, uint32_t id, const char *name, const char *value) {
	size_t n = strlen(name), v = strlen(value);
	if (g->len + 8 + n + v > sizeof g->bytes)
		abort();
	nexus_give_u32(g, g->len, id | (uint32_t)n << 16);
	nexus_give_u32(g, g->len + 4, (uint32_t)v);
	memcpy(g->bytes + g->len + 8, name, n);
	memcpy(g->bytes + g->len + 8 + n, value, v);
	g->len += 8 + n + v;
}

// A nexus_said is what a handler said, until the next one is run.
typedef struct nexus_said {
	const char *error; // NULL, or the reason why the plugin failed
	int verdict;
	nexus_str records;
} nexus_said;

// nexus_said_value is the record of that id and name; at is NULL when there is none.
static inline nexus_str nexus_said_value(const nexus_said *s, uint16_t id, const char *name) {
	nexus_facts f = {.records = s->records};
	return nexus_value(&f, id, name);
}

static inline nexus_said nexus_said_(uint64_t w) {
	nexus_said s = {.verdict = (int)(w >> 32 & 0xff), .records = {nexus_out, (uint32_t)w}};
	if (w >> 40 & 0xff) {
		snprintf(nexus_try_.error, sizeof nexus_try_.error, "%.*s", (int)(uint32_t)w, nexus_out);
		s = (nexus_said){.error = nexus_try_.error};
	}
	return s;
}

static inline uint32_t nexus_given_(const nexus_given *g) {
	memcpy(nexus_in, g->bytes, g->len);
	return (uint32_t)g->len;
}

static inline nexus_said nexus_try_request(void (*f)(nexus_request *), const nexus_given *g) {
	return nexus_said_(nexus_run_request(nexus_given_(g), f));
}
static inline nexus_said nexus_try_tool_call(void (*f)(nexus_tool_call *), const nexus_given *g) {
	return nexus_said_(nexus_run_tool_call(nexus_given_(g), f));
}
static inline nexus_said nexus_try_usage(void (*f)(nexus_usage *), const nexus_given *g) {
	return nexus_said_(nexus_run_usage(nexus_given_(g), f));
}
static inline void nexus_try_end(void (*f)(nexus_end *), const nexus_given *g) { nexus_run_end(nexus_given_(g), f); }

// nexus_try_configure returns NULL, or why the configuration is refused.
static inline const char *nexus_try_configure(nexus_configure_handler *f, const char *json) {
	nexus_copy(nexus_in, NEXUS_IN, nexus_s(json));
	return nexus_said_(nexus_run_configure((uint32_t)strlen(json), f)).error;
}

// nexus_try_done gives back what the trials took, for leak checkers.
static inline void nexus_try_done(void) {
	free(nexus_try_.text), free(nexus_try_.input), free(nexus_try_.kinds);
	memset(&nexus_try_, 0, sizeof nexus_try_);
}

#endif
