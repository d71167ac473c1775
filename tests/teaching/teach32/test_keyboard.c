/* A keyboard driver by IRQ1 with a line editor. The scan codes come by the controller's command D2, which gives a byte back as the
 * keyboard's, so that everybody types the same. */
#include "kernel.h"

static const char letters[] = "\0\0" "1234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static const char shifted[] = "\0\0" "!@#$%^&*()_+\b\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
static volatile char line[80];
static volatile u32 length, done, codes, extended;
static int shift;

static void keyboard(struct frame *f)
{
	(void)f;
	u8 code = inb(0x60);

	codes++;
	if (code == 0xe0) {
		extended++;
	} else if ((code & 0x7f) == 0x2a || (code & 0x7f) == 0x36) {
		shift = !(code & 0x80);
	} else if (code < sizeof letters - 1) {
		char c = (shift ? shifted : letters)[code];
		if (c == '\n')
			done = 1;
		else if (c == '\b' && length)
			length--;
		else if (c && c != '\b' && length < sizeof line - 1)
			line[length++] = c;
	}
	outb(0x20, 0x20);
}

static void controller(u16 port, u8 byte)
{
	while (inb(0x64) & 2)
		;
	outb(port, byte);
}

/* One byte, and its interrupt. */
static void type(u8 code)
{
	u32 before = codes;

	controller(0x64, 0xd2);
	controller(0x60, code);
	while (codes == before)
		asm volatile("sti; hlt; cli");
}

void test_keyboard(void)
{
	static const u8 typed[] = {
		0x2a, 0x23, 0xa3, 0xaa, 0x12, 0x92, 0x26, 0xa6, 0x26, 0xa6, 0x26, 0xa6, 0x0e, 0x8e, 0x18, 0x98, 0x39, 0xb9, 0x2a, 0x02, 0x82, 0xaa,
		0xe0, 0x48, 0xe0, 0xc8, 0x1c, 0x9c,
	};
	handler *before = handlers[IRQ + 1];

	test("keyboard");
	/* What firmware left in the buffer goes. */
	while (inb(0x64) & 1)
		inb(0x60);
	controller(0x64, 0x20);
	while (!(inb(0x64) & 1))
		;
	u8 mode = inb(0x60);
	controller(0x64, 0x60);
	controller(0x60, (mode | 1) & ~0x10);
	handlers[IRQ + 1] = keyboard;
	pic_mask(0xfffd);
	for (u32 i = 0; i < sizeof typed; i++)
		type(typed[i]);
	want("line ended", done, 1);
	line[length] = 0;
	print("line: %s (%u bytes, %u extended)\n", line, codes, extended);
	want("status", inb(0x64) & 3, 0);

	test("keyboard-polled");
	/* With its interrupt off the byte waits in the buffer. */
	pic_mask(0xffff);
	controller(0x64, 0x60);
	controller(0x60, mode & ~0x11);
	controller(0x64, 0xd2);
	controller(0x60, 0x5a);
	while (!(inb(0x64) & 1))
		;
	want("byte", inb(0x60), 0x5a);
	want("empty", inb(0x64) & 1, 0);
	controller(0x64, 0xaa);
	while (!(inb(0x64) & 1))
		;
	want("self-test", inb(0x60), 0x55);
	controller(0x64, 0xd0);
	while (!(inb(0x64) & 1))
		;
	want("output port: reset off, A20 on", inb(0x60) & 3, 3);
	/* The keyboard itself answers. */
	controller(0x60, 0xee);
	while (!(inb(0x64) & 1))
		;
	want("echo", inb(0x60), 0xee);
	handlers[IRQ + 1] = before;
}
