// A plugin that masks configured words, in requests and replies alike:
//
//	{"words": ["secret"], "with": "***"}
#include "nexus.h"

enum { MOST_WORDS = 256, LONGEST = 64 };

static struct {
	char text[MOST_WORDS][LONGEST];
	size_t len[MOST_WORDS];
	size_t count;
	char with[LONGEST];
	size_t with_len;
} config;

static const char *read_words(nexus_json list) {
	if (nexus_json_type(list) != '[')
		return "words must be a list";
	config.count = 0;
	for (nexus_json v = nexus_json_first(list); nexus_json_type(v); v = nexus_json_next(v)) {
		if (config.count == MOST_WORDS)
			return "words must be no more than 256";
		ptrdiff_t n = nexus_json_string(v, config.text[config.count], LONGEST);
		if (n < 1)
			return "words must be texts of 1 to 64 bytes";
		config.len[config.count++] = (size_t)n;
	}
	return NULL;
}

static const char *read_with(nexus_json text) {
	ptrdiff_t n = nexus_json_string(text, config.with, LONGEST);
	if (n < 0)
		return "with must be a text of up to 64 bytes";
	config.with_len = (size_t)n;
	return NULL;
}

static const char *configure(nexus_json settings) {
	const char *reason = NULL;
	config.len[0] = nexus_copy(config.text[0], LONGEST, nexus_s("secret"));
	config.count = 1;
	config.with_len = nexus_copy(config.with, LONGEST, nexus_s("***"));
	for (nexus_json v = nexus_json_first(settings); nexus_json_type(v) && !reason; v = nexus_json_next(v)) {
		if (nexus_json_named(v, "words"))
			reason = read_words(v);
		else if (nexus_json_named(v, "with"))
			reason = read_with(v);
		else
			reason = "there are the settings words and with, and no other";
	}
	return reason;
}
NEXUS_ON_CONFIGURE(configure)

// longest is the length of the longest word that text begins with, 0 if none. more says that a longer one may yet come.
static size_t longest(nexus_str text, bool *more) {
	size_t best = 0;
	*more = false;
	for (size_t i = 0; i < config.count; i++) {
		nexus_str word = {config.text[i], config.len[i]};
		if (nexus_begins(text, word))
			best = word.len > best ? word.len : best;
		else
			*more = *more || nexus_begins(word, text);
	}
	return best;
}

static void mask(nexus_text *t) {
	nexus_str text = nexus_bytes(t);
	for (size_t i = 0; i < text.len;) {
		bool more;
		size_t n = longest(nexus_from(text, i), &more);
		if (more && !nexus_final(t)) {
			nexus_hold(t, text.len - i);
			return;
		}
		if (n)
			nexus_replace(t, i, i + n, config.with, config.with_len, 1);
		i += n ? n : 1;
	}
}
NEXUS_ON_TEXT(mask)
