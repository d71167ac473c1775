/* IN and OUT in every size, INS and OUTS at high addresses with RDI and RSI of 64 bits; ring 3 by IOPL and by the I/O bitmap of the 64-bit TSS
 * (SDM 1, 18.5; SDM 3, 7.7). */
#include "../lib64/rt.h"

static u8 bytes[16];
CODE(in_imm, "xor %eax, %eax; inb $0x21, %al");
CODE(out_imm, "mov $0xa5, %al; outb %al, $0x21; xor %eax, %eax; inb $0x21, %al");
CODE(in_long, "mov $0x5ff0, %edx; mov $-1, %rax; inl %dx, %eax");
CODE(high_dx, "xor %eax, %eax; mov $0x1234567800000021, %rdx; inb %dx, %al");
CODE(ins_, "mov $0x21, %edx; mov $5, %ecx; rep insb");
CODE(outs_, "mov $0x21, %edx; mov $3, %ecx; rep outsb; xor %eax, %eax; inb $0x21, %al");
CODE32(in32, "mov $0x21, %edx; xor %eax, %eax; inb %dx, %al");

static void all(const char *name, const void *code)
{
	for (int form = 0; form < 5; form++) {
		struct try t;

		outb(0x21, 0xc3);
		load_tss(form == 4 ? TSS_LIMIT_BITMAP : TSS_LIMIT_NO_BITMAP);
		fresh(&t);
		t.r.rflags = form == 2 ? F_IOPL | 2 : 2;
		t.r.rdi = form ? low(user_stack_top) - 4096 : (u64)bytes;
		t.r.rsi = t.r.rdi + 5;
		say("%s ", form == 0 ? "ring 0" : form == 1 ? "ring 3" : form == 2 ? "IOPL 3" : form == 3 ? "ring 3 again" : "bitmap");
		(form ? go3 : go0)(name, code, &t);
		say(" rax %lx rcx %lx rdi +%lu rsi +%lu\n", t.r.rax, t.r.rcx & 0xff, t.r.rdi - (form ? low(user_stack_top) - 4096 : (u64)bytes),
		    t.r.rsi - (form ? low(user_stack_top) - 4096 : (u64)bytes));
	}
}

int main(void)
{
	struct try t;

	pic_init();
	memcpy(bytes + 5, "\x11\x22\x77", 3);
	memcpy(user_stack_top - 4096 + 5, "\x11\x22\x77", 3);
	io_bitmap[0x21 / 8] &= ~(1 << (0x21 % 8));
	all("in", in_imm);
	all("out", out_imm);
	all("in long", in_long);
	all("rdx has 16 bits", high_dx);
	all("ins", ins_);
	say(" %02x %02x\n", bytes[0], bytes[4]);
	all("outs", outs_);
	for (int form = 0; form < 2; form++) {
		load_tss(form ? TSS_LIMIT_BITMAP : TSS_LIMIT_NO_BITMAP);
		outb(0x21, 0xc3);
		fresh(&t);
		go32("compat", in32, &t);
		say(" eax %lx\n", t.r.rax);
	}
	return 0;
}
