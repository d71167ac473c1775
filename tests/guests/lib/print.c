/* Serial output and the way out. */
#include "base.h"

static u32 failures;

void serial_init(void);
void serial_init(void)
{
	outb(0x3fb, 0x80); /* divisor latch: 115200 baud */
	outb(0x3f8, 1);
	outb(0x3f9, 0);
	outb(0x3fb, 3); /* 8 bits, no parity; after reset it is 5 */
	outb(0x3f9, 0); /* no interrupts */
}

static void put(char c)
{
	while (!(inb(0x3fd) & 0x20))
		;
	outb(0x3f8, c);
}

static void puts_(const char *s)
{
	while (*s)
		put(*s++);
}

static void number(unsigned long v, u32 base, int width, char pad)
{
	char b[24];
	int n = 0;

	do {
		b[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n < width && n < 23)
		b[n++] = pad;
	while (n)
		put(b[--n]);
}

void say(const char *fmt, ...)
{
	__builtin_va_list ap;

	__builtin_va_start(ap, fmt);
	for (; *fmt; fmt++) {
		char pad = ' ';
		int width = 0, wide;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0')
			pad = *fmt++;
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + *fmt++ - '0';
		wide = *fmt == 'l';
		fmt += wide;
		switch (*fmt) {
		case 's':
			puts_(__builtin_va_arg(ap, const char *));
			break;
		case 'c':
			put((char)__builtin_va_arg(ap, int));
			break;
		case 'd': {
			int v = __builtin_va_arg(ap, int);

			if (v < 0) {
				put('-');
				v = -v;
			}
			number((u32)v, 10, width, pad);
			break;
		}
		case 'u':
			number(wide ? __builtin_va_arg(ap, unsigned long) : __builtin_va_arg(ap, u32), 10, width, pad);
			break;
		case 'x':
			number(wide ? __builtin_va_arg(ap, unsigned long) : __builtin_va_arg(ap, u32), 16, width, pad);
			break;
		default:
			put(*fmt);
		}
	}
	__builtin_va_end(ap);
}

void check(const char *name, int good)
{
	say("%s: %s\n", name, good ? "yes" : "NO");
	if (!good)
		failures++;
}

void finish(u32 status)
{
	static const char bochs[] = "Shutdown";

	if (!status && failures)
		status = 1;
	say("[exit %u]\n", status);
	while (!(inb(0x3fd) & 0x40)) /* let the last byte out */
		;
	outb(0x501, (u8)status);
	for (const char *p = bochs; *p; p++) /* Bochs has no such port; this is its own way to be switched off */
		outb(0x8900, *p);
	for (;;)
		asm volatile("cli; hlt");
}

/* By 4 bytes where it can be: a VMM that looks at each iteration has fewer to look at. */
void *memcpy(void *d, const void *s, unsigned long n)
{
	void *r = d;
	unsigned long words = n / 4;

	asm volatile("rep movsl; mov %3, %2; rep movsb" : "+D"(d), "+S"(s), "+c"(words) : "r"(n & 3) : "memory");
	return r;
}

void *memset(void *d, int c, unsigned long n)
{
	void *r = d;
	unsigned long words = n / 4;

	asm volatile("rep stosl; mov %3, %1; rep stosb" : "+D"(d), "+c"(words) : "a"((u8)c * 0x01010101u), "r"(n & 3) : "memory");
	return r;
}

int memcmp(const void *a, const void *b, unsigned long n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}
