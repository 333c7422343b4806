// The plugin in a native program: its handlers are run as the gateway does.
#include "nexus_try.h"

#include "mask.c"

static int failures;

#define CHECK(ok) ((ok) ? (void)0 : (void)(failures++, fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #ok)))

static void test_mask(void) {
	static const struct {
		const char *config, *text, *want;
	} tests[] = {
		{"{\"words\":[\"secret\"]}", "a secret, secretsecret sec", "a ***, ****** sec"},
		{"{\"words\":[\"secret\"],\"with\":\"\"}", "secret", ""},
		{"{\"words\":[\"ab\",\"abcd\"],\"with\":\"x\"}", "abc abcd ab", "xc x x"},
		{"{\"words\":[\"비밀\"],\"with\":\"가\"}", "내 비밀은 비", "내 가은 비"},
		{"{\"words\":[\"a\\\"\\u00e9\"]}", "a\"é a\"", "*** a\""},
		{"{}", "a secret", "a ***"},
		{"{\"words\":[]}", "secret", "secret"},
		{"{\"words\":[\"secret\"]}", "", ""},
	};
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
		CHECK(!nexus_try_configure(configure, tests[i].config));
		CHECK(nexus_try_cuts(mask, (nexus_trial){.max_hold = 64}, tests[i].text, tests[i].want));
	}
}

static void test_found(void) {
	CHECK(!nexus_try_configure(configure, "{\"words\":[\"secret\"]}"));
	nexus_str pieces[] = {nexus_s("a sec"), nexus_s("ret and a secre"), nexus_s("t")};
	nexus_found got = nexus_try(mask, (nexus_trial){.reply = true}, pieces, 3);
	CHECK(!got.error && got.kind_count == 2 && got.kinds[0] == 1 && got.held == 5);
}

static void test_configure(void) {
	static const char *const refused[] = {"[]", "{\"words\":1}", "{\"words\":[\"\"]}", "{\"with\":1}", "{\"word\":[]}", "{"};
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		CHECK(nexus_try_configure(configure, refused[i]));
}

int main(void) {
	test_mask();
	test_found();
	test_configure();
	nexus_try_done();
	puts(failures ? "FAIL" : "ok");
	return failures != 0;
}
