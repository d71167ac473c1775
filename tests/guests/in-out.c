/* IN and OUT in every size and form; a port nobody answers reads as ones; ring 3 with IOPL 0 is refused (SDM 2, IN). */
#include "lib/rt.h"

CODE(in_dx, "mov $0x21, %edx; inb %dx, %al");
CODE(in_imm, "inb $0x21, %al");
CODE(out_dx, "mov $0x21, %edx; mov $0x5a, %al; outb %al, %dx; xor %eax, %eax; inb %dx, %al");
CODE(out_imm, "mov $0xa5, %al; outb %al, $0x21; xor %eax, %eax; inb $0x21, %al");
CODE(in_word, "mov $0x5ff0, %edx; xor %eax, %eax; inw %dx, %ax");
CODE(in_long, "mov $0x5ff0, %edx; xor %eax, %eax; inl %dx, %eax");
CODE(in_none, "mov $0x5ff0, %edx; xor %eax, %eax; inb %dx, %al");
CODE(out_word, "mov $0x5ff0, %edx; mov $0x1234, %eax; outw %ax, %dx");
CODE(out_long, "mov $0x5ff0, %edx; mov $0x1234, %eax; outl %eax, %dx");
CODE(high_dx, "mov $0x12340021, %edx; inb %dx, %al");

int main(void)
{
	static const struct { const char *name; const void *code; } all[] = {
		{ "in dx", in_dx }, { "in imm", in_imm }, { "out dx", out_dx }, { "out imm", out_imm }, { "in word", in_word },
		{ "in long", in_long }, { "in nobody", in_none }, { "out word", out_word }, { "out long", out_long },
		{ "dx has 16 bits", high_dx },
	};
	struct try t;

	pic_init();
	for (u32 i = 0; i < sizeof all / sizeof *all; i++)
		for (int form = 0; form < 3; form++) {
			outb(0x21, 0xc3);
			fresh(&t);
			t.r.eflags = form == 2 ? F_IOPL | 2 : 2;
			(form ? go3 : go0)(all[i].name, all[i].code, &t);
			say(" %s: eax %08x\n", form == 0 ? "ring 0" : form == 1 ? "ring 3" : "ring 3 IOPL 3", t.r.eax);
		}
	return 0;
}
