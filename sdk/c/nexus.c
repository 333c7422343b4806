// The SDK of C plugins; nexus.h says what everything is for. The numbers are those of the ABI.
#include "nexus.h"

char nexus_in[NEXUS_IN];
uint32_t nexus_edits[NEXUS_EDITS * 5];
char nexus_out[NEXUS_OUT];

#ifdef __wasm__
NEXUS_EXPORT("nexus_abi_1") void nexus_abi_1(void);
void nexus_abi_1(void) {}

NEXUS_EXPORT("nexus_buffers") const uint32_t *nexus_buffers(void);
const uint32_t *nexus_buffers(void) {
	static uint32_t table[6];
	table[0] = (uint32_t)nexus_in, table[1] = sizeof nexus_in;
	table[2] = (uint32_t)nexus_edits, table[3] = sizeof nexus_edits;
	table[4] = (uint32_t)nexus_out, table[5] = sizeof nexus_out;
	return table;
}

// The compiler may call these of its own accord; a libc's own stand before them.
__attribute__((weak)) void *memcpy(void *to, const void *from, size_t n) {
	__builtin_memcpy(to, from, n); // one instruction
	return to;
}
__attribute__((weak)) void *memmove(void *to, const void *from, size_t n) {
	__builtin_memmove(to, from, n);
	return to;
}
__attribute__((weak)) void *memset(void *to, int c, size_t n) {
	__builtin_memset(to, c, n);
	return to;
}
#endif

// ── strings ──

nexus_str nexus_s(const char *z) {
	size_t n = 0;
	while (z[n])
		n++;
	return (nexus_str){z, n};
}

bool nexus_same(nexus_str a, nexus_str b) { return a.len == b.len && nexus_begins(a, b); }
bool nexus_is(nexus_str a, const char *z) { return nexus_same(a, nexus_s(z)); }

nexus_str nexus_decimal(int64_t v, char room[NEXUS_DECIMAL]) {
	uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
	size_t at = NEXUS_DECIMAL;
	do
		room[--at] = (char)('0' + u % 10);
	while (u /= 10);
	if (v < 0)
		room[--at] = '-';
	return (nexus_str){room + at, NEXUS_DECIMAL - at};
}

size_t nexus_copy(char *room, size_t cap, nexus_str from) {
	size_t n = from.len < cap ? from.len : cap;
	if (n)
		__builtin_memcpy(room, from.at, n);
	return n;
}

static void put16(char *b, uint32_t v) { b[0] = (char)v, b[1] = (char)(v >> 8); }
static void put32(char *b, uint32_t v) { put16(b, v), put16(b + 2, v >> 16); }

static uint32_t get16(const char *b) { return (uint32_t)(uint8_t)b[0] | (uint32_t)(uint8_t)b[1] << 8; }
static uint32_t get32(const char *b) { return get16(b) | get16(b + 2) << 16; }

// ── what a handler says ──

void nexus_fail_(nexus_answer *a, const char *reason) {
	if (a->failed)
		return; // the first reason is the one that matters
	a->used = (uint32_t)nexus_copy(nexus_out, NEXUS_OUT, nexus_s(reason));
	a->failed = true;
}

// A writer adds records to room; full says that one did not fit.
typedef struct writer {
	char *room;
	size_t cap, used;
	bool full;
} writer;

static void add(writer *w, uint32_t id, nexus_str name, nexus_str value) {
	if (w->full || name.len > 0xffff || w->cap - w->used < 8 || w->cap - w->used - 8 < name.len ||
	    w->cap - w->used - 8 - name.len < value.len) {
		w->full = true;
		return;
	}
	char *b = w->room + w->used;
	put16(b, id), put16(b + 2, (uint32_t)name.len), put32(b + 4, (uint32_t)value.len);
	nexus_copy(b + 8, name.len, name);
	nexus_copy(b + 8 + name.len, value.len, value);
	w->used += 8 + name.len + value.len;
}

static void say(nexus_answer *a, uint32_t id, nexus_str name, nexus_str value) {
	writer w = {nexus_out, NEXUS_OUT, a->used, false};
	if (a->failed)
		return;
	add(&w, id, name, value);
	if (w.full)
		nexus_fail_(a, "more said than the out buffer holds");
	else
		a->used = (uint32_t)w.used;
}

static const nexus_str none = {"", 0};

void nexus_refuse_(nexus_answer *a, int status, const char *code, const char *message) {
	if (a->failed)
		return;
	if (a->text)
		a->used = 0; // replacements are not made in what is refused
	a->verdict = NEXUS_REFUSE;
	if (status >= 100 && status <= 999) {
		char room[NEXUS_DECIMAL];
		say(a, 4, none, nexus_decimal(status, room));
	}
	if (*code)
		say(a, 5, none, nexus_s(code));
	if (*message)
		say(a, 6, none, nexus_s(message));
}

void nexus_retry_after_(nexus_answer *a, int64_t seconds) {
	const int64_t most = 86400;
	char room[NEXUS_DECIMAL];
	say(a, 13, none, nexus_decimal(seconds < 0 ? 0 : seconds > most ? most : seconds, room));
}

void nexus_set_label(nexus_request *r, const char *name, nexus_str value) { say(&r->answer, 1, nexus_s(name), value); }
void nexus_set_header(nexus_request *r, const char *name, nexus_str value) { say(&r->answer, 2, nexus_s(name), value); }
void nexus_set_model(nexus_request *r, nexus_str model) { say(&r->answer, 3, none, model); }
void nexus_set_pool(nexus_request *r, nexus_str pool) { say(&r->answer, 9, none, pool); }
void nexus_drop_header(nexus_request *r, const char *name) { say(&r->answer, 11, nexus_s(name), none); }
void nexus_set_system(nexus_request *r, const char *where, nexus_str text) { say(&r->answer, 12, nexus_s(where), text); }

void nexus_set_request_header(nexus_request *r, const char *name, nexus_str value) {
	say(&r->answer, 10, nexus_s(name), value);
}

void nexus_say(nexus_request *r, nexus_str text) {
	r->answer.verdict = NEXUS_ANSWER;
	say(&r->answer, 8, none, text);
}

void nexus_set_arguments(nexus_tool_call *c, nexus_str json) { say(&c->answer, 7, none, json); }

void nexus_drop(nexus_tool_call *c, nexus_str text) {
	c->answer.verdict = NEXUS_DROP;
	say(&c->answer, 8, none, text);
}

static uint64_t result(const nexus_answer *a) {
	if (a->failed)
		return (uint64_t)1 << 40 | a->used;
	if (a->text && a->verdict == NEXUS_PASS)
		return (uint64_t)a->edits << 48 | a->hold;
	return (uint64_t)a->verdict << 32 | a->used;
}

// ── on_text ──

static void edit(nexus_text *t, size_t start, size_t end, const uint32_t rest[3]) {
	nexus_answer *a = &t->answer;
	if (start < a->last || end < start || end > t->size) {
		nexus_fail(t, "edit out of order or out of bounds");
	} else if (a->edits == NEXUS_EDITS) {
		nexus_fail(t, "more edits than the edit buffer holds");
	} else {
		uint32_t *e = nexus_edits + a->edits++ * 5;
		e[0] = (uint32_t)start, e[1] = (uint32_t)end, e[2] = rest[0], e[3] = rest[1], e[4] = rest[2];
		a->last = (uint32_t)end;
	}
}

void nexus_replace(nexus_text *t, size_t start, size_t end, const char *with, size_t len, uint32_t kind) {
	nexus_answer *a = &t->answer;
	if (a->failed || a->verdict != NEXUS_PASS)
		return;
	if (len > NEXUS_OUT - a->used) {
		nexus_fail(t, "more replacements than the out buffer holds");
		return;
	}
	uint32_t at = a->used;
	a->used += (uint32_t)nexus_copy(nexus_out + at, len, (nexus_str){with, len});
	edit(t, start, end, (uint32_t[3]){at, (uint32_t)len, kind});
}

void nexus_report(nexus_text *t, size_t start, size_t end, uint32_t kind) {
	if (!t->answer.failed && t->answer.verdict == NEXUS_PASS)
		edit(t, start, end, (uint32_t[3]){0, 0xffffffff, kind});
}

uint64_t nexus_run_text(uint32_t n, uint32_t flags, void (*f)(nexus_text *)) {
	nexus_text t = {.answer = {.text = true}, .flags = flags, .context = flags >> 16};
	if (n > NEXUS_IN || t.context > n) {
		nexus_fail(&t, "text does not fit the buffer it was promised to be in");
		return result(&t.answer);
	}
	t.size = n - t.context;
	f(&t);
	return result(&t.answer);
}

// ── what is known of a call ──

bool nexus_next_record(nexus_str *rest, nexus_record *r) {
	if (rest->len < 8)
		return false;
	uint64_t name = 8 + get16(rest->at + 2), end = name + get32(rest->at + 4);
	if (end > rest->len)
		return false;
	r->id = (uint16_t)get16(rest->at);
	r->name = (nexus_str){rest->at + 8, (size_t)name - 8};
	r->value = (nexus_str){rest->at + name, (size_t)(end - name)};
	*rest = nexus_from(*rest, (size_t)end);
	return true;
}

nexus_str nexus_value(const nexus_facts *f, uint16_t id, const char *name) {
	nexus_str rest = f->records;
	for (nexus_record r; nexus_next_record(&rest, &r);)
		if (r.id == id && nexus_is(r.name, name))
			return r.value;
	return (nexus_str){NULL, 0};
}

uint32_t nexus_u32(const nexus_facts *f, uint32_t at) {
	return f->head_len >= 4 && at <= f->head_len - 4 ? get32(f->head + at) : 0;
}

uint64_t nexus_u64(const nexus_facts *f, uint32_t at, uint64_t absent) {
	if (f->head_len < 8 || at > f->head_len - 8)
		return absent;
	return get32(f->head + at) | (uint64_t)get32(f->head + at + 4) << 32;
}

// facts reads the n bytes that the host has left in the in buffer; it is false when they are no head.
static bool facts(uint32_t n, nexus_facts *f) {
	if (n > NEXUS_IN || n < 4)
		return false;
	uint32_t head = get32(nexus_in);
	if (head < 4 || head > n)
		return false;
	*f = (nexus_facts){nexus_in, head, {nexus_in + head, n - head}};
	return true;
}

#define RUN(type, n, f) \
	type v = {.answer = {.used = 0}}; \
	if (facts(n, &v.facts)) \
		f(&v); \
	else \
		nexus_fail(&v, "metadata does not fit the buffer it was promised to be in"); \
	return result(&v.answer);

uint64_t nexus_run_request(uint32_t n, void (*f)(nexus_request *)) { RUN(nexus_request, n, f) }
uint64_t nexus_run_tool_call(uint32_t n, void (*f)(nexus_tool_call *)) { RUN(nexus_tool_call, n, f) }
uint64_t nexus_run_usage(uint32_t n, void (*f)(nexus_usage *)) { RUN(nexus_usage, n, f) }

void nexus_run_end(uint32_t n, void (*f)(nexus_end *)) {
	nexus_end e;
	if (facts(n, &e.facts))
		f(&e);
}

uint64_t nexus_run_configure(uint32_t n, nexus_configure_handler *f) {
	nexus_answer a = {.used = 0};
	nexus_json config = nexus_json_read(n ? (nexus_str){nexus_in, n} : nexus_s("{}"));
	const char *reason = "configuration is not a JSON object";
	if (n <= NEXUS_IN && nexus_json_type(config) == '{')
		reason = f(config);
	if (reason)
		nexus_fail_(&a, reason);
	return result(&a);
}

// ── host functions ──

#define SIZED(s) (s).at, (uint32_t)(s).len

void nexus_log(nexus_str line) { nexus_host_log(SIZED(line)); }
void nexus_model_set(nexus_str model) { nexus_host_model_set(SIZED(model)); }
void nexus_pool_set(nexus_str pool) { nexus_host_pool_set(SIZED(pool)); }
void nexus_vault_put(nexus_str value, nexus_str token) { nexus_host_vault_put(SIZED(value), SIZED(token)); }
int64_t nexus_kv_get(nexus_str key) { return nexus_host_kv_get(SIZED(key)); }
int64_t nexus_now_ms(void) { return nexus_host_now_ms(); }
void nexus_random(void *room, size_t n) { nexus_host_random(room, (uint32_t)n); }

int64_t nexus_kv_incr_if(nexus_str key, int64_t amount, int64_t limit, int64_t ttl_ms) {
	return nexus_host_kv_incr_if(SIZED(key), amount, limit, ttl_ms);
}

void nexus_label_set(const char *name, nexus_str value) {
	nexus_str n = nexus_s(name);
	nexus_host_label_set(SIZED(n), SIZED(value));
}

void nexus_metric(const char *name, double amount) {
	nexus_str n = nexus_s(name);
	nexus_host_metric(SIZED(n), amount);
}

static nexus_str filled(char *room, size_t cap, int32_t n) {
	return n < 0 || (size_t)n > cap ? (nexus_str){NULL, 0} : (nexus_str){room, (size_t)n};
}

nexus_str nexus_label_get(const char *name, char *room, size_t cap) {
	nexus_str n = nexus_s(name);
	return filled(room, cap, nexus_host_label_get(SIZED(n), room, (uint32_t)cap));
}

nexus_str nexus_call_get(uint32_t id, const char *name, char *room, size_t cap) {
	nexus_str n = nexus_s(name);
	return filled(room, cap, nexus_host_call_get(id, SIZED(n), room, (uint32_t)cap));
}

int nexus_http(const nexus_http_request *ask, char *room, size_t cap, nexus_http_response *got) {
	writer w = {room, cap, 0, false};
	if (ask->method)
		add(&w, 1, none, nexus_s(ask->method));
	add(&w, 2, none, nexus_s(ask->url));
	for (size_t i = 0; i < ask->header_count; i++)
		add(&w, NEXUS_HTTP_HEADER, nexus_s(ask->headers[i].name), ask->headers[i].value);
	if (ask->body.len)
		add(&w, 4, none, ask->body);
	if (w.full)
		return -1;
	int32_t n = nexus_host_http_call(room, (uint32_t)w.used, room + w.used, (uint32_t)(cap - w.used));
	nexus_str back = filled(room + w.used, cap - w.used, n);
	if (!back.at)
		return n == -2 ? -2 : -1;
	*got = (nexus_http_response){.facts = {.records = back}};
	got->body = nexus_value(&got->facts, 4, "");
	nexus_str status = nexus_value(&got->facts, 5, "");
	int code = 0;
	for (size_t i = 0; i < status.len && i < 3; i++)
		code = code * 10 + (status.at[i] - '0');
	return code;
}
