#include "console.h"
#include <stdarg.h>

enum { COM1 = 0x3f8, EXIT = 0x501, COLUMNS = 80, ROWS = 25, COLOURS = 0x1700, CRTC = 0x3d4 };

#ifdef REAL_MODE
/* The screen is in a segment of its own there. */
static u16 cell(u32 i) { u16 v; asm volatile("movw $0xb800, %%ax; mov %%ax, %%fs; movw %%fs:(%1), %0" : "=r"(v) : "b"(i * 2) : "eax"); return v; }
static void set_cell(u32 i, u16 v) { asm volatile("movw $0xb800, %%ax; mov %%ax, %%fs; movw %0, %%fs:(%1)" : : "c"(v), "b"(i * 2) : "eax", "memory"); }
#else
static volatile u16 *screen;
static u16 cell(u32 i) { return screen[i]; }
static void set_cell(u32 i, u16 v) { screen[i] = v; }
#endif
static u32 at;
/* A copy, for the name may be a program's that is gone by then. */
static char name[32];
static u32 passed, failed, wrong;

static void cursor(void)
{
	outb(CRTC, 14);
	outb(CRTC + 1, at >> 8);
	outb(CRTC, 15);
	outb(CRTC + 1, at);
}

void console_init(uptr base)
{
#ifdef REAL_MODE
	(void)base;
#else
	screen = (volatile u16 *)base;
#endif
	at = 0;
	for (u32 i = 0; i < COLUMNS * ROWS; i++)
		set_cell(i, COLOURS | ' ');
	cursor();
	/* 115,200 baud, 8N1, FIFO on, no interrupts. */
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x80);
	outb(COM1, 1);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3);
	outb(COM1 + 2, 7);
}

void put(char c)
{
	while (!(inb(COM1 + 5) & 0x20))
		;
	outb(COM1, c);
	if (c == '\n')
		at += COLUMNS - at % COLUMNS;
	else
		set_cell(at++, COLOURS | (u8)c);
	if (at >= COLUMNS * ROWS) {
		for (u32 i = 0; i < COLUMNS * (ROWS - 1); i++)
			set_cell(i, cell(i + COLUMNS));
		for (u32 i = COLUMNS * (ROWS - 1); i < COLUMNS * ROWS; i++)
			set_cell(i, COLOURS | ' ');
		at -= COLUMNS;
	}
	cursor();
}

static void number(u32 n, u32 base)
{
	char digits[12];
	int i = 0;

	do
		digits[i++] = "0123456789abcdef"[n % base];
	while ((n /= base));
	while (i)
		put(digits[--i]);
}

void print(const char *f, ...)
{
	va_list args;

	va_start(args, f);
	for (; *f; f++) {
		if (*f != '%') {
			put(*f);
			continue;
		}
		switch (*++f) {
		case 's':
			for (const char *s = va_arg(args, const char *); *s; s++)
				put(*s);
			break;
		case 'c':
			put(va_arg(args, int));
			break;
		case 'u':
			number(va_arg(args, u32), 10);
			break;
		case 'x':
			number(va_arg(args, u32), 16);
			break;
		}
	}
	va_end(args);
}

/* A sum that depends on each cell's place, and on the cursor that the adapter has. */
u32 screen_sum(void)
{
	u32 a = 1, b = 0;

	for (u32 i = 0; i < COLUMNS * ROWS; i++) {
		a = (a + cell(i)) % 65521;
		b = (b + a) % 65521;
	}
	outb(CRTC, 14);
	a += inb(CRTC + 1) << 8;
	outb(CRTC, 15);
	a += inb(CRTC + 1);
	return b << 16 | (a & 0xffff);
}

u16 screen_cell(u32 row, u32 column)
{
	return cell(row * COLUMNS + column);
}

static void end(void)
{
	if (!*name)
		return;
	print("%s %s\n", wrong ? "bad" : "ok", name);
	if (wrong)
		failed++;
	else
		passed++;
}

void test(const char *next)
{
	end();
	u32 i = 0;
	for (; next[i] && i < sizeof name - 1; i++)
		name[i] = next[i];
	name[i] = 0;
	wrong = 0;
}

void want(const char *what, u32 got, u32 wanted)
{
	if (got == wanted)
		return;
	wrong++;
	print("  %s: %s is %x, not %x\n", name, what, got, wanted);
}

u32 tests_sum(void)
{
	end();
	*name = 0;
	print("screen %x\n", screen_sum());
	print("%u ok, %u bad\n", passed, failed);
	return failed;
}

void finish(u32 status)
{
	outl(EXIT, status);
	for (;;)
		asm volatile("cli; hlt");
}
