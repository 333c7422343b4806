// The scanner of ../guest in C, without a library.

typedef unsigned char byte;

static byte text[64 << 10];

__attribute__((export_name("buffer"))) byte *buffer(void) { return text; }

__attribute__((export_name("empty"))) void empty(void) {}

static int letter(byte c) { return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9'); }

static void fill(byte *b, int n) {
	for (int i = 0; i < n; i++) b[i] = '*';
}

static int digits(const byte *b, int n) {
	int i = 0;
	while (i < n && ((b[i] >= '0' && b[i] <= '9') || (b[i] == '-' && i > 0))) i++;
	return i;
}

static int mail(byte *b, int at, int n) {
	int start = at, end = at + 1;
	while (start > 0 && letter(b[start - 1])) start--;
	while (end < n && (letter(b[end]) || b[end] == '.')) end++;
	if (start == at || end == at + 1) return 0;
	fill(b + start, end - start);
	return 1;
}

__attribute__((export_name("scan"))) int scan(int n) {
	int masked = 0;
	for (int i = 0; i < n; i++) {
		if (text[i] == '@') {
			masked += mail(text, i, n);
		} else if (text[i] >= '0' && text[i] <= '9') {
			int run = digits(text + i, n - i);
			if (run >= 9) {
				fill(text + i, run);
				masked++;
			}
			i += run - 1;
		}
	}
	return masked;
}

// A sieve, a hash and a sort: loops of other shapes than the scanner's.
static byte sieve[32 << 10];
static unsigned list[1 << 10];

__attribute__((export_name("work"))) unsigned work(int n) {
	unsigned sum = 0;
	for (int i = 0; i < n; i++) sieve[i] = 1;
	for (int i = 2; i * i < n; i++)
		if (sieve[i])
			for (int j = i * i; j < n; j += i) sieve[j] = 0;
	for (int i = 2; i < n; i++)
		if (sieve[i]) sum = (sum ^ (unsigned)i) * 16777619u;
	int m = n < 1024 ? n : 1024;
	for (int i = 0; i < m; i++) list[i] = sum * (unsigned)(i + 1);
	for (int i = 1; i < m && i < 200; i++) {
		unsigned v = list[i];
		int j = i;
		for (; j > 0 && list[j - 1] > v; j--) list[j] = list[j - 1];
		list[j] = v;
	}
	for (int i = 0; i < m; i++) sum = sum * 31 + list[i];
	return sum;
}
