/* The TSS's I/O bitmap opens single ports to ring 3; a port beyond its limit is closed; wide accesses ask every bit (SDM 1, 18.5.2). */
#include "lib/rt.h"

CODE(in_byte, "inb %dx, %al");
CODE(in_word, "inw %dx, %ax");
CODE(in_long, "inl %dx, %eax");
CODE(out_byte, "mov $0x77, %al; outb %al, %dx");

static void show(const char *name, const void *code, u32 port)
{
	struct try t;

	fresh(&t);
	t.r.edx = port;
	t.r.eax = 0;
	go3(name, code, &t);
	/* What an unaligned access to a port of nobody's reads is the chip set's business. */
	say(" %04x: eax %08x\n", port, code != in_byte && (port & 1) ? 0 : t.r.eax);
}

static void all(void)
{
	show("byte", in_byte, 0x21);
	show("byte", in_byte, 0x22);
	show("byte", in_byte, 0x5e0);
	show("byte", in_byte, 0x5e7);
	show("word", in_word, 0x5e0);
	show("word", in_word, 0x5e6);
	show("word", in_word, 0x5e7);
	show("long", in_long, 0x5e0);
	show("long", in_long, 0x5e4);
	show("long", in_long, 0x5e5);
	show("beyond", in_byte, 0x1000);
	show("far beyond", in_byte, 0xffff);
	show("out", out_byte, 0x21);
	say("mask %02x\n", inb(0x21));
	outb(0x21, 0xc3);
}

int main(void)
{
	pic_init();
	outb(0x21, 0xc3);
	say("no bitmap\n");
	all();
	load_tss(TSS_LIMIT_BITMAP);
	say("all closed\n");
	all();
	io_bitmap[0x21 / 8] &= ~(1 << (0x21 % 8));
	io_bitmap[0x5e0 / 8] = 0;
	say("some open\n");
	all();
	memset(io_bitmap, 0, 512);
	say("all open\n");
	all();
	tss->iomap = 104 + 512 + 100;
	say("base beyond the limit\n");
	all();
	return 0;
}
