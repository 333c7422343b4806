// The JSON reader of C plugins: the text is checked once as a whole, and what is looked up in it afterwards may rely
// on that. nexus.h says what everything is for.
#include "nexus.h"

typedef struct cursor {
	const char *at, *end;
} cursor;

static const nexus_json nothing;

static int peek(const cursor *c) { return c->at < c->end ? (unsigned char)*c->at : -1; }

static void space(cursor *c) {
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
		c->at++;
}

static bool take(cursor *c, char want) {
	if (peek(c) != want)
		return false;
	c->at++;
	return true;
}

static bool literal(cursor *c, const char *word) {
	for (; *word; word++)
		if (!take(c, *word))
			return false;
	return true;
}

static size_t digits(cursor *c) {
	size_t n = 0;
	for (; peek(c) >= '0' && peek(c) <= '9'; n++)
		c->at++;
	return n;
}

static bool number(cursor *c) {
	take(c, '-');
	if (!take(c, '0') && !digits(c))
		return false;
	if (take(c, '.') && !digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+'))
			take(c, '-');
		return digits(c) > 0;
	}
	return true;
}

static int hex(int c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// four reads the digits of \u; -1 when they are none.
static int32_t four(cursor *c) {
	int32_t v = 0;
	for (int i = 0; i < 4; i++) {
		int d = hex(peek(c));
		if (d < 0)
			return -1;
		c->at++;
		v = v << 4 | d;
	}
	return v;
}

// unicode reads what follows \u, the second half of a pair with it; -1 when it is no character.
static int32_t unicode(cursor *c) {
	int32_t v = four(c);
	if (v < 0xd800 || v > 0xdfff)
		return v;
	if (v > 0xdbff || !literal(c, "\\u"))
		return -1;
	int32_t low = four(c);
	return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
}

static int32_t escape(cursor *c) {
	int e = peek(c);
	c->at += e >= 0;
	switch (e) {
	case '"':
	case '\\':
	case '/':
		return e;
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case 'u':
		return unicode(c);
	}
	return -1;
}

// utf8 reads one character that is written as it is; -1 when it is none.
static int32_t utf8(cursor *c) {
	int32_t first = peek(c);
	int more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
	if (first < ' ' || (first >= 0x80 && first < 0xc2) || first > 0xf4)
		return -1;
	int32_t v = more == 0 ? first : first & (0x3f >> more);
	for (c->at++; more > 0; more--) {
		int next = peek(c);
		if (next < 0x80 || next > 0xbf)
			return -1;
		c->at++;
		v = v << 6 | (next & 0x3f);
	}
	bool overlong = (first >= 0xe0 && v < 0x800) || (first >= 0xf0 && v < 0x10000);
	return overlong || (v >= 0xd800 && v <= 0xdfff) || v > 0x10ffff ? -1 : v;
}

// character reads the next one of a string whose end has not come; -1 when it is none.
static int32_t character(cursor *c) { return take(c, '\\') ? escape(c) : utf8(c); }

static bool string(cursor *c) {
	if (!take(c, '"'))
		return false;
	while (!take(c, '"'))
		if (character(c) < 0)
			return false;
	return true;
}

static bool value(cursor *c, int depth);

// container reads a list or, with keys, an object.
static bool container(cursor *c, char close, int depth) {
	if (depth == 0)
		return false;
	c->at++;
	space(c);
	if (take(c, close))
		return true;
	do {
		space(c);
		if (close == '}') {
			if (!string(c))
				return false;
			space(c);
			if (!take(c, ':'))
				return false;
		}
		if (!value(c, depth - 1))
			return false;
		space(c);
	} while (take(c, ','));
	return take(c, close);
}

static bool value(cursor *c, int depth) {
	space(c);
	switch (peek(c)) {
	case '{':
		return container(c, '}', depth);
	case '[':
		return container(c, ']', depth);
	case '"':
		return string(c);
	case 't':
		return literal(c, "true");
	case 'f':
		return literal(c, "false");
	case 'n':
		return literal(c, "null");
	}
	return number(c);
}

nexus_json nexus_json_read(nexus_str text) {
	if (!text.len)
		return nothing;
	cursor c = {text.at, text.at + text.len};
	space(&c);
	const char *start = c.at;
	if (!value(&c, NEXUS_JSON_DEPTH))
		return nothing;
	nexus_json v = {.text = {start, (size_t)(c.at - start)}};
	space(&c);
	return c.at == c.end ? v : nothing;
}

char nexus_json_type(nexus_json v) {
	if (!v.text.len)
		return 0;
	char c = *v.text.at;
	return c == '-' || (c >= '0' && c <= '9') ? '0' : c;
}

// skip_string and skip go over what has been checked: they look for its end alone.
static const char *skip_string(const char *p) {
	for (p++; *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p + 1;
}

static const char *skip(const char *p) {
	int depth = 0;
	do {
		if (*p == '"') {
			p = skip_string(p);
			continue;
		}
		if (*p == '{' || *p == '[')
			depth++;
		if (*p == '}' || *p == ']')
			depth--;
		p++;
	} while (depth > 0);
	return p;
}

static const char *gap(const char *p) {
	while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	return p;
}

// bare is the end of a number or a literal, which only something else can end.
static const char *bare(const char *p) {
	while (*p != ',' && *p != '}' && *p != ']' && *p != ' ' && *p != '\t' && *p != '\n' && *p != '\r')
		p++;
	return p;
}

// entry reads the item or member that begins at p, of a container that has been checked.
static nexus_json entry(const char *p, char in) {
	nexus_json v = {.in = in};
	if (in == '{') {
		const char *end = skip_string(p);
		v.key = (nexus_str){p + 1, (size_t)(end - p) - 2};
		p = gap(gap(end) + 1);
	}
	bool whole = *p == '"' || *p == '{' || *p == '[';
	v.text = (nexus_str){p, (size_t)((whole ? skip(p) : bare(p)) - p)};
	return v;
}

nexus_json nexus_json_first(nexus_json v) {
	char type = nexus_json_type(v);
	if (type != '{' && type != '[')
		return nothing;
	const char *p = gap(v.text.at + 1);
	return *p == '}' || *p == ']' ? nothing : entry(p, type);
}

nexus_json nexus_json_next(nexus_json v) {
	if (!v.in)
		return nothing;
	const char *p = gap(v.text.at + v.text.len);
	return *p == ',' ? entry(gap(p + 1), v.in) : nothing;
}

nexus_json nexus_json_member(nexus_json object, const char *name) {
	nexus_json v = nothing;
	if (nexus_json_type(object) == '{')
		for (v = nexus_json_first(object); v.text.len && !nexus_json_named(v, name);)
			v = nexus_json_next(v);
	return v;
}

static size_t encode(int32_t v, char b[4]) {
	if (v < 0x80)
		return b[0] = (char)v, 1;
	if (v < 0x800)
		return b[0] = (char)(0xc0 | v >> 6), b[1] = (char)(0x80 | (v & 0x3f)), 2;
	if (v < 0x10000)
		return b[0] = (char)(0xe0 | v >> 12), b[1] = (char)(0x80 | (v >> 6 & 0x3f)), b[2] = (char)(0x80 | (v & 0x3f)), 3;
	b[0] = (char)(0xf0 | v >> 18), b[1] = (char)(0x80 | (v >> 12 & 0x3f));
	return b[2] = (char)(0x80 | (v >> 6 & 0x3f)), b[3] = (char)(0x80 | (v & 0x3f)), 4;
}

static ptrdiff_t decode(nexus_str written, char *room, size_t cap) {
	cursor c = {written.at, written.at + written.len};
	size_t n = 0;
	while (c.at < c.end) {
		char b[4];
		size_t size = encode(character(&c), b);
		if (nexus_copy(room + n, cap - n, (nexus_str){b, size}) < size)
			return -1;
		n += size;
	}
	return (ptrdiff_t)n;
}

ptrdiff_t nexus_json_string(nexus_json v, char *room, size_t cap) {
	if (nexus_json_type(v) != '"')
		return -1;
	return decode((nexus_str){v.text.at + 1, v.text.len - 2}, room, cap);
}

ptrdiff_t nexus_json_key(nexus_json v, char *room, size_t cap) { return v.in == '{' ? decode(v.key, room, cap) : -1; }

bool nexus_json_named(nexus_json v, const char *name) {
	if (v.in != '{')
		return false;
	cursor c = {v.key.at, v.key.at + v.key.len};
	while (c.at < c.end) {
		char b[4];
		size_t size = encode(character(&c), b);
		for (size_t i = 0; i < size; i++)
			if (!*name || *name++ != b[i])
				return false;
	}
	return !*name;
}

bool nexus_json_int(nexus_json v, int64_t *n) {
	if (nexus_json_type(v) != '0')
		return false;
	bool negative = *v.text.at == '-';
	uint64_t most = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, u = 0;
	for (size_t i = negative; i < v.text.len; i++) {
		char c = v.text.at[i];
		if (c < '0' || c > '9' || u > (most - (uint64_t)(c - '0')) / 10)
			return false;
		u = u * 10 + (uint64_t)(c - '0');
	}
	*n = (int64_t)(negative ? 0 - u : u);
	return true;
}

bool nexus_json_bool(nexus_json v, bool *b) {
	char type = nexus_json_type(v);
	if (type == 't' || type == 'f')
		*b = type == 't';
	return type == 't' || type == 'f';
}
