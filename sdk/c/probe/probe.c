// The probe does on demand everything a plugin can do: ../../conformance/PROBE.md.
#include "nexus.h"

enum { LONGEST = 64 };

static struct {
	char word[LONGEST], with[LONGEST];
	size_t word_len, with_len;
	bool fail, log;
} config = {"secret", "[WORD]", 6, 6, false, false};

static bool take(nexus_json v, char *room, size_t least, size_t *len) {
	ptrdiff_t n = nexus_json_string(v, room, LONGEST);
	if (n < (ptrdiff_t)least)
		return false;
	*len = (size_t)n;
	return true;
}

static const char *unknown(nexus_json v) {
	static char reason[512] = "unknown key ";
	ptrdiff_t n = nexus_json_key(v, reason + 12, sizeof reason - 13);
	reason[12 + (n < 0 ? 0 : n)] = 0;
	return reason;
}

static const char *setting(nexus_json v) {
	if (nexus_json_named(v, "word"))
		return take(v, config.word, 1, &config.word_len) ? NULL : "word must be a text of 1 to 64 bytes";
	if (nexus_json_named(v, "with"))
		return take(v, config.with, 0, &config.with_len) ? NULL : "with must be a text of up to 64 bytes";
	if (nexus_json_named(v, "fail"))
		return nexus_json_bool(v, &config.fail) ? NULL : "fail must be true or false";
	if (nexus_json_named(v, "log"))
		return nexus_json_bool(v, &config.log) ? NULL : "log must be true or false";
	return unknown(v);
}

static const char *configure(nexus_json settings) {
	config.word_len = nexus_copy(config.word, LONGEST, nexus_s("secret"));
	config.with_len = nexus_copy(config.with, LONGEST, nexus_s("[WORD]"));
	config.fail = config.log = false;
	for (nexus_json v = nexus_json_first(settings); nexus_json_type(v); v = nexus_json_next(v)) {
		const char *reason = setting(v);
		if (reason)
			return reason;
	}
	if (config.fail)
		return "asked to fail";
	if (config.log)
		nexus_log(nexus_s("probe ready"));
	return NULL;
}
NEXUS_ON_CONFIGURE(configure)

// ── on_text ──

static const char *const commands[] = {"!trap", "!fail", "!refuse", "!hold", "!bad", "!label"};
enum { TRAP, FAIL, REFUSE, HOLD, BAD, LABEL, NO_COMMAND };

// command is which one the text begins with; opens says that it may yet become one.
static int command(nexus_str text, bool *opens) {
	*opens = false;
	for (int i = 0; i < NO_COMMAND; i++) {
		nexus_str c = nexus_s(commands[i]);
		if (nexus_begins(text, c))
			return i;
		*opens = *opens || (text.len && nexus_begins(c, text));
	}
	return NO_COMMAND;
}

static void mask(nexus_text *t) {
	nexus_str text = nexus_bytes(t), word = {config.word, config.word_len};
	for (size_t i = 0; i < text.len;) {
		nexus_str rest = nexus_from(text, i);
		if (nexus_begins(rest, word)) {
			nexus_replace(t, i, i + word.len, config.with, config.with_len, 1);
			i += word.len;
		} else if (!nexus_final(t) && nexus_begins(word, rest)) {
			nexus_hold(t, rest.len);
			return;
		} else {
			i++;
		}
	}
}

static nexus_str or_none(nexus_str v) { return v.at ? v : nexus_s("none"); }

static bool bad; // the text in hand asks for an answer that the typed API does not give

static void on_text(nexus_text *t) {
	bool opens;
	char seen[256];
	int c = nexus_context(t) ? NO_COMMAND : command(nexus_bytes(t), &opens);
	switch (c) {
	case TRAP:
		__builtin_trap();
	case FAIL:
		nexus_fail(t, "asked to fail");
		return;
	case REFUSE:
		nexus_refuse(t, 403, "probe_refused", "asked to refuse");
		return;
	case HOLD:
		nexus_hold(t, nexus_bytes(t).len);
		return;
	case BAD:
		bad = true;
		return;
	case LABEL:
		nexus_label_set("probe", or_none(nexus_label_get("seen", seen, sizeof seen)));
		break;
	default:
		if (!nexus_context(t) && opens && !nexus_final(t)) {
			nexus_hold(t, nexus_bytes(t).len);
			return;
		}
	}
	mask(t);
}

static void beyond(nexus_text *t) { nexus_replace(t, 0, nexus_bytes(t).len, "", 0, 0); }

NEXUS_EXPORT("nexus_on_text") uint64_t probe_on_text(uint32_t n, uint32_t flags);
uint64_t probe_on_text(uint32_t n, uint32_t flags) {
	bad = false;
	uint64_t answer = nexus_run_text(n, flags, on_text);
	return bad ? nexus_run_text(n + 1, flags, beyond) : answer; // of a byte more than there is
}

// ── on_request ──

static nexus_str yes(bool b) { return nexus_s(b ? "yes" : "no"); }

static void number(nexus_request *r, const char *name, int64_t v) {
	char room[NEXUS_DECIMAL];
	nexus_set_label(r, name, nexus_decimal(v, room));
}

static void tools(nexus_request *r) {
	char names[257];
	size_t len = 0;
	bool any = false;
	nexus_str rest = r->facts.records;
	for (nexus_record x; nexus_next_record(&rest, &x);) {
		if (x.id != NEXUS_IN_TOOL)
			continue;
		if (any)
			len += nexus_copy(names + len, sizeof names - len, nexus_s(","));
		len += nexus_copy(names + len, sizeof names - len, x.value);
		any = true;
	}
	if (any && len <= 256)
		nexus_set_label(r, "tools", (nexus_str){names, len});
}

static void tell(nexus_request *r) {
	nexus_str model = nexus_model(r);
	if (model.len && model.len <= 256)
		nexus_set_label(r, "seen", model);
	tools(r);
	nexus_set_label(r, "stream", yes(nexus_stream(r)));
	nexus_set_label(r, "bytes", yes(nexus_body_bytes(r) > 0));
	number(r, "turns", nexus_turns(r));
	number(r, "choices", nexus_choices(r));
	number(r, "images", nexus_images(r));
	number(r, "tool_count", nexus_tools(r));
	number(r, "texts", nexus_texts(r));
	number(r, "systems", nexus_systems(r));
	number(r, "max_tokens", nexus_max_tokens(r));
}

static void known(nexus_request *r) {
	char room[256];
	nexus_set_label(r, "known", or_none(nexus_call_get(NEXUS_IN_PRINCIPAL, "", room, sizeof room)));
	nexus_set_label(r, "asked", or_none(nexus_call_get(NEXUS_IN_HEADER, "x-ask", room, sizeof room)));
	nexus_set_label(r, "grade", or_none(nexus_call_get(NEXUS_IN_PRINCIPAL_LABEL, "grade", room, sizeof room)));
}

static void time(nexus_request *r) {
	uint8_t b[8] = {0}, any = 0;
	nexus_random(b, sizeof b);
	for (size_t i = 0; i < sizeof b; i++)
		any |= b[i];
	nexus_set_label(r, "time", yes(nexus_now_ms() > 0));
	nexus_set_label(r, "random", yes(any));
}

static void http(nexus_request *r) {
	static char room[64 << 10];
	const nexus_http_header header = {"x-probe", nexus_s("1")};
	nexus_http_request ask = {"POST", "https://probe.test/ask", &header, 1, nexus_s("ping")};
	nexus_http_response got;
	int status = nexus_http(&ask, room, sizeof room, &got);
	if (status < 0) {
		nexus_set_label(r, "http", nexus_s(status == -2 ? "denied" : "no"));
		return;
	}
	number(r, "http", status);
	got.body.len = got.body.len < 64 ? got.body.len : 64;
	nexus_set_label(r, "said", got.body);
}

static void headers(nexus_request *r) {
	nexus_set_header(r, "x-probe", nexus_s("1"));
	nexus_drop_header(r, "server");
	nexus_set_request_header(r, "x-probe-in", nexus_header(r, "x-ask"));
}

static void count(nexus_request *r) {
	int64_t n = nexus_kv_incr_if(nexus_s("k"), 1, 2, 60000);
	if (n < 0)
		nexus_set_label(r, "count", nexus_s("full"));
	else
		number(r, "count", n);
}

static void act(nexus_request *r) {
	nexus_str model = nexus_model(r);
	if (nexus_is(model, "answer")) {
		nexus_say(r, nexus_s("hello from the probe"));
	} else if (nexus_is(model, "switch")) {
		nexus_set_model(r, nexus_s("other"));
	} else if (nexus_is(model, "pool")) {
		nexus_set_pool(r, nexus_s("other"));
	} else if (nexus_is(model, "set")) {
		nexus_model_set(nexus_s("other"));
		nexus_pool_set(nexus_s("other"));
	} else if (nexus_is(model, "system")) {
		nexus_set_system(r, NEXUS_BEFORE, nexus_s("Be brief."));
	} else if (nexus_is(model, "headers")) {
		headers(r);
	} else if (nexus_is(model, "count")) {
		count(r);
	} else if (nexus_is(model, "read")) {
		number(r, "count", nexus_kv_get(nexus_s("k")));
	} else if (nexus_is(model, "known")) {
		known(r);
	} else if (nexus_is(model, "vault")) {
		nexus_vault_put(nexus_s("probe value"), nexus_s("probe-token"));
	} else if (nexus_is(model, "log")) {
		nexus_log(nexus_s("probe was asked"));
	} else if (nexus_is(model, "time")) {
		time(r);
	} else if (nexus_is(model, "http")) {
		http(r);
	}
}

static void on_request(nexus_request *r) {
	nexus_str model = nexus_model(r);
	if (nexus_is(model, "refuse")) {
		nexus_refuse(r, 402, "probe_refused", "asked to refuse");
	} else if (nexus_is(model, "trap")) {
		__builtin_trap();
	} else if (nexus_is(model, "fail")) {
		nexus_fail(r, "asked to fail");
	} else {
		act(r);
		tell(r);
	}
}
NEXUS_ON_REQUEST(on_request)

// ── the reply's hooks ──

static void on_tool_call(nexus_tool_call *c) {
	nexus_str name = nexus_tool_name(c);
	if (nexus_is(name, "drop"))
		nexus_drop(c, nexus_s("[dropped]"));
	else if (nexus_is(name, "refuse"))
		nexus_refuse(c, 403, "probe_refused", "asked to refuse");
	else if (nexus_is(name, "rewrite"))
		nexus_set_arguments(c, nexus_s("{\"rewritten\":true}"));
	else if (nexus_is(name, "trap"))
		__builtin_trap();
}
NEXUS_ON_TOOL_CALL(on_tool_call)

static void on_usage(nexus_usage *u) {
	if (nexus_usage_completion(u) > 1000)
		nexus_refuse(u, 429, "probe_usage", "too much");
}
NEXUS_ON_USAGE(on_usage)

static void on_end(nexus_end *e) {
	(void)e;
	nexus_metric("ended", 1);
}
NEXUS_ON_END(on_end)
