/* Branches to each instruction right behind a sensitive one, where a five-byte jump would lie. */
#include "lib/rt.h"

/* eax selects the entry: 0 the sensitive instruction, 1.. the instructions behind it. edx collects which ones ran. */
#define WINDOW(name, first) \
	CODE(name, "xor %edx, %edx; jmp *2f(,%eax,4); .balign 4; 2: .long 10f, 11f, 12f, 13f, 14f;" \
		"10: " first "; 11: inc %edx; 12: add $16, %edx; 13: inc %ecx; 14: add $0x100, %edx; sti")
WINDOW(behind_cli, "cli");
WINDOW(behind_sti, "sti");
WINDOW(behind_pushf, "pushf; add $4, %esp");
WINDOW(behind_smsw, "smsw %si");
WINDOW(behind_mov, "mov %cs, %esi");
/* Loops whose head is inside the window. */
CODE(loop_inside, "mov $3, %ecx; xor %edx, %edx; cli; 1: inc %edx; loop 1b; sti");
CODE(loop_sensitive, "mov $3, %ecx; xor %edx, %edx; 1: cli; inc %edx; sti; nop; loop 1b");
CODE(two_sites, "xor %edx, %edx; pushf; cli; sti; popf; inc %edx; jmp 1f; 2: jmp 3f; 1: pushf; cli; jmp 2b; 3: popf; inc %edx");
CODE(call_window, "xor %edx, %edx; cli; call 1f; inc %edx; jmp 2f; 1: add $16, %edx; ret; 2: sti");
CODE(to_end, "xor %edx, %edx; jmp 1f; 2: inc %edx; ret; nop; nop; 1: cli; jmp 2b");

static void show(const char *name, const void *code, u32 entries)
{
	struct try t;

	for (u32 round = 0; round < 2; round++)
		for (u32 i = 0; i < entries; i++) {
			fresh(&t);
			t.r.eax = round ? entries - 1 - i : i;
			t.r.ecx = 0;
			try0(&t, code);
			cli();
			say("%s entry %u: vector %d edx %03x ecx %u\n", name, round ? entries - 1 - i : i, t.vector, t.r.edx, t.r.ecx);
		}
}

int main(void)
{
	pic_init();
	show("cli", behind_cli, 5);
	show("sti", behind_sti, 5);
	show("pushf", behind_pushf, 5);
	show("smsw", behind_smsw, 5);
	show("mov cs", behind_mov, 5);
	show("loop inside", loop_inside, 1);
	show("loop over it", loop_sensitive, 1);
	show("two sites", two_sites, 1);
	show("call", call_window, 1);
	show("to the end", to_end, 1);
	return 0;
}
