/* INS and OUTS, single and repeated, both directions, with the registers left right (SDM 2, INS, OUTS). */
#include "lib/rt.h"

u8 string_buffer[64];
CODE(outsb, "cld; mov $0x3f8, %edx; rep outsb");
CODE(insb, "cld; mov $0x21, %edx; rep insb");
CODE(insb_down, "std; mov $0x21, %edx; rep insb; cld");
CODE(insw, "cld; mov $0x5ff0, %edx; rep insw");
CODE(insl, "cld; mov $0x5ff0, %edx; insl");
CODE(outsl, "cld; mov $0x5ff0, %edx; rep outsl");
CODE(outsb_fs, "cld; mov $0x3f8, %edx; rep outsb %fs:(%esi), %dx");
CODE(insb_16, "cld; mov $0x21, %edx; addr16 rep insb");

static void show(const char *name, const void *code, u32 count, u32 at)
{
	static const char text[] = "this goes out byte by byte\n";
	struct try t;

	memset(string_buffer, 0x11, sizeof string_buffer);
	fresh(&t);
	t.r.ecx = count;
	t.r.esi = (u32)text;
	t.r.edi = (u32)string_buffer + at;
	go0(name, code, &t);
	say(" ecx %d esi +%d edi +%d:", t.r.ecx, t.r.esi - (u32)text, t.r.edi - (u32)string_buffer);
	for (int i = 0; i < 16; i++)
		say(" %02x", string_buffer[i]);
	say("\n");
	go3("  the same in ring 3", code, 0);
}

int main(void)
{
	struct try t;

	pic_init();
	outb(0x21, 0xc3);
	show("outsb", outsb, 27, 0);
	show("outsb 0", outsb, 0, 0);
	show("outsb fs", outsb_fs, 27, 0);
	show("insb", insb, 5, 2);
	show("insb down", insb_down, 5, 8);
	show("insw", insw, 3, 1);
	show("insl", insl, 3, 1);
	show("outsl", outsl, 2, 0);
	memset((void *)0x7000, 0x11, 16);
	fresh(&t);
	t.r.ecx = 0xc0c00003;
	t.r.edi = 0xd1d17004;
	go0("16-bit addresses", insb_16, &t);
	say(" ecx %08x edi %08x %08x %08x\n", t.r.ecx, t.r.edi, ((u32 *)0x7000)[0], ((u32 *)0x7000)[1]);
	return 0;
}
