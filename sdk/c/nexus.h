// nexus.h is what a C plugin of the gateway is written with. It turns the ABI's numbers and buffers into a text to
// edit and a call to judge. It needs no libc; nexus.c is compiled with the plugin.
//
//	#include "nexus.h"
//
//	static void mask(nexus_text *t) { … }
//	NEXUS_ON_TEXT(mask)
//
// A hook is subscribed to by naming it so: NEXUS_ON_CONFIGURE, NEXUS_ON_REQUEST, NEXUS_ON_TEXT, NEXUS_ON_TOOL_CALL,
// NEXUS_ON_USAGE, NEXUS_ON_END. A host function is imported by calling it, and is then a capability that the manifest
// asks for. A plugin keeps no state between calls but what it was configured with: any instance may be asked about any
// piece of any text, and may be thrown away after it. What a handler is given is valid until it returns.
#ifndef NEXUS_H
#define NEXUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A nexus_str is bytes that somebody else keeps; at is NULL where there is none. It does not end in a zero.
typedef struct nexus_str {
	const char *at;
	size_t len;
} nexus_str;

nexus_str nexus_s(const char *zero_terminated);
bool nexus_same(nexus_str a, nexus_str b);
bool nexus_is(nexus_str a, const char *zero_terminated);

static inline bool nexus_begins(nexus_str a, nexus_str with) {
	if (a.len < with.len)
		return false;
	for (size_t i = 0; i < with.len; i++)
		if (a.at[i] != with.at[i])
			return false;
	return true;
}

// nexus_from is what is left of a, from start.
static inline nexus_str nexus_from(nexus_str a, size_t start) {
	if (start >= a.len)
		start = a.len;
	return a.at ? (nexus_str){a.at + start, a.len - start} : a;
}

// nexus_decimal writes v into room and returns it.
enum { NEXUS_DECIMAL = 20 };
nexus_str nexus_decimal(int64_t v, char room[NEXUS_DECIMAL]);

// nexus_copy copies at most cap bytes to room and returns how many.
size_t nexus_copy(char *room, size_t cap, nexus_str from);

// The buffers of the ABI. A guest is called by one caller at a time, so there is one of each. They are no part of the
// module's file, and untouched pages of them cost nothing.
enum {
	NEXUS_MAX_PIECE = 32 << 10, // the most text, its context included, that a handler is asked about
	NEXUS_IN = 256 << 10,
	NEXUS_EDITS = NEXUS_MAX_PIECE / 4, // of 20 bytes
	NEXUS_OUT = 256 << 10
};

extern char nexus_in[NEXUS_IN];
extern uint32_t nexus_edits[NEXUS_EDITS * 5];
extern char nexus_out[NEXUS_OUT];

// A nexus_answer is what a handler has decided so far. The SDK keeps it.
typedef struct nexus_answer {
	uint32_t used;  // of the out buffer
	uint32_t edits; // in the edit buffer
	uint32_t last;  // where the last edit ended
	uint32_t hold;
	uint8_t verdict;
	bool failed; // the out buffer holds the reason
	bool text;   // it is of on_text
} nexus_answer;

enum { NEXUS_PASS, NEXUS_REFUSE, NEXUS_ANSWER, NEXUS_DROP }; // verdicts

// nexus_refuse stops the call, for every hook but on_end. A status of 0 is 403; code and message may be "".
#define nexus_refuse(v, status, code, message) nexus_refuse_(&(v)->answer, (status), (code), (message))

// nexus_retry_after says, once nexus_refuse was called, in how many seconds the caller may try again: at most a day.
#define nexus_retry_after(v, seconds) nexus_retry_after_(&(v)->answer, (seconds))

// nexus_fail says that the plugin cannot judge; its failure rule decides. Nothing said after it counts.
#define nexus_fail(v, reason) nexus_fail_(&(v)->answer, (reason))

void nexus_refuse_(nexus_answer *a, int status, const char *code, const char *message);
void nexus_retry_after_(nexus_answer *a, int64_t seconds);
void nexus_fail_(nexus_answer *a, const char *reason);

// ── on_text ──────────────────────────────────────────────────────────────────────────────────────────────────────

// A nexus_text is a piece of text on its way. Offsets count bytes of nexus_bytes.
typedef struct nexus_text {
	nexus_answer answer;
	uint32_t flags, context, size;
} nexus_text;

// Roles: who wrote the text.
enum { NEXUS_NO_ROLE, NEXUS_SYSTEM, NEXUS_DEVELOPER, NEXUS_USER, NEXUS_ASSISTANT, NEXUS_TOOL };

// Channels: which stream of text a piece belongs to.
enum {
	NEXUS_CONTENT,
	NEXUS_REASONING,
	NEXUS_REFUSED,
	NEXUS_TOOL_ARGUMENTS, // JSON text
	NEXUS_PROMPT,
	NEXUS_INPUT,
	NEXUS_ASIDE // names, tools' descriptions, metadata
};

// nexus_bytes is the text to decide on: what was held back before and what has come since.
static inline nexus_str nexus_bytes(const nexus_text *t) { return (nexus_str){nexus_in + t->context, t->size}; }

// nexus_window is the text with what went before it; the text begins at nexus_context. What went before is there to
// look back on, as far as the manifest's context asks, and has already been let go.
static inline nexus_str nexus_window(const nexus_text *t) { return (nexus_str){nexus_in, t->context + t->size}; }
static inline size_t nexus_context(const nexus_text *t) { return t->context; }

static inline bool nexus_reply(const nexus_text *t) { return t->flags & 1; }       // it goes to the caller, not to the model
static inline bool nexus_final(const nexus_text *t) { return t->flags >> 1 & 1; }  // nothing follows: hold nothing
static inline bool nexus_must_decide(const nexus_text *t) { return t->flags >> 2 & 1; } // more was held than max_hold
static inline bool nexus_last_user(const nexus_text *t) { return t->flags >> 3 & 1; }   // of the last user message
static inline int nexus_role(const nexus_text *t) { return t->flags >> 4 & 0xf; }
static inline int nexus_channel(const nexus_text *t) { return t->flags >> 8 & 0xff; }

// nexus_replace puts the len bytes at with in place of the bytes [start, end) and reports kind as found: the n-th of
// the manifest's kinds, 0 for none. Call it in order of place.
void nexus_replace(nexus_text *t, size_t start, size_t end, const char *with, size_t len, uint32_t kind);

// nexus_report says that the bytes [start, end) are of the kind, and leaves them as they are.
void nexus_report(nexus_text *t, size_t start, size_t end, uint32_t kind);

// nexus_hold keeps the last n bytes back until more is known; they come again with what follows them.
static inline void nexus_hold(nexus_text *t, size_t n) { t->answer.hold = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n; }

// ── what is known of a call: every hook but on_text ──────────────────────────────────────────────────────────────

// A nexus_facts is a head of numbers and the records behind it.
typedef struct nexus_facts {
	const char *head;
	uint32_t head_len;
	nexus_str records;
} nexus_facts;

// Records that the host writes.
enum {
	NEXUS_IN_ID = 1,
	NEXUS_IN_ROUTE,
	NEXUS_IN_MODEL,
	NEXUS_IN_PRINCIPAL,
	NEXUS_IN_TENANT,
	NEXUS_IN_TEAM,
	NEXUS_IN_TIER,
	NEXUS_IN_PRINCIPAL_LABEL,
	NEXUS_IN_LABEL,
	NEXUS_IN_TOOL,
	NEXUS_IN_HEADER,
	NEXUS_IN_TOOL_CALL_ID,
	NEXUS_IN_TOOL_NAME,
	NEXUS_IN_ARGUMENTS,
	NEXUS_IN_SCHEMA,
	NEXUS_IN_BACKEND,
	NEXUS_IN_ERROR
};

#define nexus_id(v) nexus_value(&(v)->facts, NEXUS_IN_ID, "")
#define nexus_route(v) nexus_value(&(v)->facts, NEXUS_IN_ROUTE, "") // chat, completions, …
#define nexus_model(v) nexus_value(&(v)->facts, NEXUS_IN_MODEL, "")
#define nexus_principal(v) nexus_value(&(v)->facts, NEXUS_IN_PRINCIPAL, "") // the key's id
#define nexus_tenant(v) nexus_value(&(v)->facts, NEXUS_IN_TENANT, "")
#define nexus_team(v) nexus_value(&(v)->facts, NEXUS_IN_TEAM, "")
#define nexus_tier(v) nexus_value(&(v)->facts, NEXUS_IN_TIER, "")
#define nexus_principal_label(v, name) nexus_value(&(v)->facts, NEXUS_IN_PRINCIPAL_LABEL, (name)) // the caller's own
#define nexus_label(v, name) nexus_value(&(v)->facts, NEXUS_IN_LABEL, (name)) // what an earlier plugin said

// nexus_value is the first record of that id and name; at is NULL when there is none.
nexus_str nexus_value(const nexus_facts *f, uint16_t id, const char *name);

// A nexus_record is one record. nexus_next_record reads the next one of rest and returns false behind the last.
typedef struct nexus_record {
	uint16_t id;
	nexus_str name, value;
} nexus_record;
bool nexus_next_record(nexus_str *rest, nexus_record *r);

// Fields of a head; one that a host with a shorter head does not write is absent.
uint32_t nexus_u32(const nexus_facts *f, uint32_t at);
uint64_t nexus_u64(const nexus_facts *f, uint32_t at, uint64_t absent);

// ── on_request ───────────────────────────────────────────────────────────────────────────────────────────────────

// A nexus_request is what is known of a call before it is decided on: everything but its texts.
typedef struct nexus_request {
	nexus_answer answer;
	nexus_facts facts;
} nexus_request;

static inline bool nexus_stream(const nexus_request *r) { return nexus_u32(&r->facts, 4) & 1; }
static inline uint32_t nexus_choices(const nexus_request *r) { return nexus_u32(&r->facts, 8); }
static inline uint32_t nexus_turns(const nexus_request *r) { return nexus_u32(&r->facts, 12); } // messages
static inline uint32_t nexus_images(const nexus_request *r) { return nexus_u32(&r->facts, 16); }
static inline uint32_t nexus_tools(const nexus_request *r) { return nexus_u32(&r->facts, 20); } // functions offered
static inline uint32_t nexus_texts(const nexus_request *r) { return nexus_u32(&r->facts, 24); }
static inline uint32_t nexus_body_bytes(const nexus_request *r) { return nexus_u32(&r->facts, 28); }
static inline int64_t nexus_max_tokens(const nexus_request *r) { return (int64_t)nexus_u64(&r->facts, 32, UINT64_MAX); } // -1: not given
static inline uint32_t nexus_systems(const nexus_request *r) { return nexus_u32(&r->facts, 40); } // system and developer messages

// nexus_header is the caller's header of that name, in lower case. Capability "headers".
static inline nexus_str nexus_header(const nexus_request *r, const char *name) {
	return nexus_value(&r->facts, NEXUS_IN_HEADER, name);
}

void nexus_set_label(nexus_request *r, const char *name, nexus_str value); // for policy and log
void nexus_set_model(nexus_request *r, nexus_str model);                   // capability "model"
void nexus_set_pool(nexus_request *r, nexus_str pool);                     // where policy names no target; capability "pool"

// Headers of the reply and of the backend's request; capability "headers". A request header with an empty value takes
// out the one that an earlier plugin set.
void nexus_set_header(nexus_request *r, const char *name, nexus_str value);
void nexus_drop_header(nexus_request *r, const char *name);
void nexus_set_request_header(nexus_request *r, const char *name, nexus_str value);

// nexus_set_system tells the model something first; where is seen from the first system message of the request, and a
// request without one gets it. Capability "system".
#define NEXUS_BEFORE "before"
#define NEXUS_AFTER "after"
#define NEXUS_REPLACE "replace"
void nexus_set_system(nexus_request *r, const char *where, nexus_str text);

// nexus_say answers the call with text; no backend is asked. Capability "answer".
void nexus_say(nexus_request *r, nexus_str text);

// ── on_tool_call ─────────────────────────────────────────────────────────────────────────────────────────────────

// A nexus_tool_call is one call that a model makes, complete, before the caller has seen any of it.
typedef struct nexus_tool_call {
	nexus_answer answer;
	nexus_facts facts;
} nexus_tool_call;

static inline bool nexus_tool_stream(const nexus_tool_call *c) { return nexus_u32(&c->facts, 4) & 1; }
static inline uint32_t nexus_tool_choice(const nexus_tool_call *c) { return nexus_u32(&c->facts, 8); }
static inline uint32_t nexus_tool_index(const nexus_tool_call *c) { return nexus_u32(&c->facts, 12); } // which of the choice's calls
static inline nexus_str nexus_tool_id(const nexus_tool_call *c) { return nexus_value(&c->facts, NEXUS_IN_TOOL_CALL_ID, ""); }
static inline nexus_str nexus_tool_name(const nexus_tool_call *c) { return nexus_value(&c->facts, NEXUS_IN_TOOL_NAME, ""); }
static inline nexus_str nexus_arguments(const nexus_tool_call *c) { return nexus_value(&c->facts, NEXUS_IN_ARGUMENTS, ""); } // JSON text
static inline nexus_str nexus_schema(const nexus_tool_call *c) { return nexus_value(&c->facts, NEXUS_IN_SCHEMA, ""); } // NULL: not offered

void nexus_set_arguments(nexus_tool_call *c, nexus_str json);

// nexus_drop takes the call out of the reply and puts text, which may be empty, in its place.
void nexus_drop(nexus_tool_call *c, nexus_str text);

// ── on_usage, on_end ─────────────────────────────────────────────────────────────────────────────────────────────

// A nexus_usage is what a call has used so far, in tokens.
typedef struct nexus_usage {
	nexus_answer answer;
	nexus_facts facts;
} nexus_usage;

static inline bool nexus_usage_final(const nexus_usage *u) { return nexus_u32(&u->facts, 4) & 1; }          // nothing will be added
static inline bool nexus_usage_estimated(const nexus_usage *u) { return nexus_u32(&u->facts, 4) >> 1 & 1; } // the gateway guessed
static inline uint64_t nexus_usage_prompt(const nexus_usage *u) { return nexus_u64(&u->facts, 8, 0); }
static inline uint64_t nexus_usage_completion(const nexus_usage *u) { return nexus_u64(&u->facts, 16, 0); }
static inline uint64_t nexus_usage_cached(const nexus_usage *u) { return nexus_u64(&u->facts, 24, 0); }    // of the prompt
static inline uint64_t nexus_usage_reasoning(const nexus_usage *u) { return nexus_u64(&u->facts, 32, 0); } // of the completion

#define nexus_backend(v) nexus_value(&(v)->facts, NEXUS_IN_BACKEND, "") // who answered; on_usage and on_end

// A nexus_end is a call that is over.
typedef struct nexus_end {
	nexus_facts facts;
} nexus_end;

static inline bool nexus_end_stream(const nexus_end *e) { return nexus_u32(&e->facts, 4) & 1; }
static inline bool nexus_end_complete(const nexus_end *e) { return nexus_u32(&e->facts, 4) >> 1 & 1; } // it reached its proper end
static inline uint32_t nexus_end_status(const nexus_end *e) { return nexus_u32(&e->facts, 8); }
static inline uint64_t nexus_end_prompt(const nexus_end *e) { return nexus_u64(&e->facts, 16, 0); }
static inline uint64_t nexus_end_completion(const nexus_end *e) { return nexus_u64(&e->facts, 24, 0); }
static inline uint64_t nexus_end_cached(const nexus_end *e) { return nexus_u64(&e->facts, 32, 0); }
static inline uint64_t nexus_end_reasoning(const nexus_end *e) { return nexus_u64(&e->facts, 40, 0); }
static inline uint64_t nexus_end_millis(const nexus_end *e) { return nexus_u64(&e->facts, 48, 0); }
static inline int64_t nexus_end_first(const nexus_end *e) { return (int64_t)nexus_u64(&e->facts, 56, UINT64_MAX); } // ms to the first byte; -1: none
static inline nexus_str nexus_end_error(const nexus_end *e) { return nexus_value(&e->facts, NEXUS_IN_ERROR, ""); } // NULL: it ended well

// ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────

// A nexus_json is one value of a JSON text that has been read as a whole, strictly (RFC 8259, UTF-8, at most
// NEXUS_JSON_DEPTH deep), or nothing. It points into that text. In a list or an object it knows its neighbour.
enum { NEXUS_JSON_DEPTH = 32 };
typedef struct nexus_json {
	nexus_str text; // as it is written
	nexus_str key;  // of a member: as it is written, between its quotes
	char in;        // '{' or '[': it is a member or an item; 0: it stands alone
} nexus_json;

nexus_json nexus_json_read(nexus_str text);                        // nothing when it is not JSON
char nexus_json_type(nexus_json v);                                // one of { [ " 0 t f n; 0: nothing
nexus_json nexus_json_first(nexus_json container);                 // first item or member, or nothing
nexus_json nexus_json_next(nexus_json item);                       // the one behind it, or nothing
nexus_json nexus_json_member(nexus_json object, const char *name); // the first of that name, or nothing
bool nexus_json_named(nexus_json member, const char *name);
ptrdiff_t nexus_json_string(nexus_json v, char *room, size_t cap); // bytes written; -1: no text, or longer than cap
ptrdiff_t nexus_json_key(nexus_json v, char *room, size_t cap);    // of its name, as above
bool nexus_json_int(nexus_json v, int64_t *n);                     // false: not a whole number that fits
bool nexus_json_bool(nexus_json v, bool *b);                       // false: neither true nor false

// A configure handler reads the configuration, a JSON object, and returns NULL, or why it refuses the plugin at load.
// The text is gone after it: copy what is needed later.
typedef const char *nexus_configure_handler(nexus_json config);

// ── host functions: each one that is called is a capability ──────────────────────────────────────────────────────

void nexus_log(nexus_str line); // one bounded line; never a caller's text

// What this or an earlier plugin said, and what is known of the call (NEXUS_IN_ID to NEXUS_IN_PRINCIPAL_LABEL,
// NEXUS_IN_HEADER; name is "" but for the last two). It is copied to room; at is NULL when there is none or it is longer.
nexus_str nexus_label_get(const char *name, char *room, size_t cap);
nexus_str nexus_call_get(uint32_t id, const char *name, char *room, size_t cap);

void nexus_label_set(const char *name, nexus_str value);
void nexus_model_set(nexus_str model); // requests only; capability "model"
void nexus_pool_set(nexus_str pool);   // requests only; capability "pool"

// Counters are the plugin's own, shared by all replicas of the gateway. nexus_kv_incr_if adds amount unless that would
// pass limit, and returns the new count, or -1; a counter lives for ttl_ms from when it was first added to.
int64_t nexus_kv_get(nexus_str key);
int64_t nexus_kv_incr_if(nexus_str key, int64_t amount, int64_t limit, int64_t ttl_ms);

// nexus_vault_put notes that token stands for value in this call: where the decision restores, the caller reads value
// where the answer says token.
void nexus_vault_put(nexus_str value, nexus_str token);

void nexus_metric(const char *name, double amount); // adds to a counter that the manifest names under metrics
int64_t nexus_now_ms(void);                         // Unix milliseconds
void nexus_random(void *room, size_t n);

// nexus_http asks a server that the configuration allows, on the time of the call. room takes the request and the
// answer, which points into it. It returns the status; -1: not answered, or by too much; -2: not allowed.
typedef struct nexus_http_header {
	const char *name;
	nexus_str value;
} nexus_http_header;
typedef struct nexus_http_request {
	const char *method, *url; // method NULL: GET
	const nexus_http_header *headers;
	size_t header_count;
	nexus_str body;
} nexus_http_request;
typedef struct nexus_http_response {
	nexus_str body;
	nexus_facts facts; // headers: nexus_value(&r.facts, NEXUS_HTTP_HEADER, name)
} nexus_http_response;
enum { NEXUS_HTTP_HEADER = 3 };
int nexus_http(const nexus_http_request *ask, char *room, size_t cap, nexus_http_response *got);

// ── the hooks ────────────────────────────────────────────────────────────────────────────────────────────────────

uint64_t nexus_run_configure(uint32_t n, nexus_configure_handler *f);
uint64_t nexus_run_request(uint32_t n, void (*f)(nexus_request *));
uint64_t nexus_run_text(uint32_t n, uint32_t flags, void (*f)(nexus_text *));
uint64_t nexus_run_tool_call(uint32_t n, void (*f)(nexus_tool_call *));
uint64_t nexus_run_usage(uint32_t n, void (*f)(nexus_usage *));
void nexus_run_end(uint32_t n, void (*f)(nexus_end *));

#ifdef __wasm__
#define NEXUS_EXPORT(name) __attribute__((export_name(name)))
#else
#define NEXUS_EXPORT(name)
#endif

#define NEXUS_HOOK_(name, run, f) \
	uint64_t name(uint32_t n); \
	NEXUS_EXPORT(#name) uint64_t name(uint32_t n) { return run(n, f); }

#define NEXUS_ON_CONFIGURE(f) NEXUS_HOOK_(nexus_configure, nexus_run_configure, f)
#define NEXUS_ON_REQUEST(f) NEXUS_HOOK_(nexus_on_request, nexus_run_request, f)
#define NEXUS_ON_TOOL_CALL(f) NEXUS_HOOK_(nexus_on_tool_call, nexus_run_tool_call, f)
#define NEXUS_ON_USAGE(f) NEXUS_HOOK_(nexus_on_usage, nexus_run_usage, f)
#define NEXUS_ON_TEXT(f) \
	uint64_t nexus_on_text(uint32_t n, uint32_t flags); \
	NEXUS_EXPORT("nexus_on_text") uint64_t nexus_on_text(uint32_t n, uint32_t flags) { return nexus_run_text(n, flags, f); }
#define NEXUS_ON_END(f) \
	void nexus_on_end(uint32_t n); \
	NEXUS_EXPORT("nexus_on_end") void nexus_on_end(uint32_t n) { nexus_run_end(n, f); }

// The gateway's side of the host functions: imports of a module, and nexus_try.h's in a native test.
#ifdef __wasm__
#define NEXUS_IMPORT(name) __attribute__((import_module("nexus"), import_name(name)))
#else
#define NEXUS_IMPORT(name)
#endif

NEXUS_IMPORT("log") void nexus_host_log(const char *at, uint32_t len);
NEXUS_IMPORT("label_get") int32_t nexus_host_label_get(const char *name, uint32_t name_len, char *out, uint32_t cap);
NEXUS_IMPORT("label_set") void nexus_host_label_set(const char *name, uint32_t name_len, const char *value, uint32_t value_len);
NEXUS_IMPORT("call_get") int32_t nexus_host_call_get(uint32_t id, const char *name, uint32_t name_len, char *out, uint32_t cap);
NEXUS_IMPORT("model_set") void nexus_host_model_set(const char *at, uint32_t len);
NEXUS_IMPORT("pool_set") void nexus_host_pool_set(const char *at, uint32_t len);
NEXUS_IMPORT("kv_get") int64_t nexus_host_kv_get(const char *key, uint32_t key_len);
NEXUS_IMPORT("kv_incr_if") int64_t nexus_host_kv_incr_if(const char *key, uint32_t key_len, int64_t amount, int64_t limit, int64_t ttl_ms);
NEXUS_IMPORT("vault_put") void nexus_host_vault_put(const char *value, uint32_t value_len, const char *token, uint32_t token_len);
NEXUS_IMPORT("metric") void nexus_host_metric(const char *name, uint32_t name_len, double amount);
NEXUS_IMPORT("now_ms") int64_t nexus_host_now_ms(void);
NEXUS_IMPORT("random") void nexus_host_random(void *at, uint32_t len);
NEXUS_IMPORT("http_call") int32_t nexus_host_http_call(const char *at, uint32_t len, char *out, uint32_t cap);

#endif
