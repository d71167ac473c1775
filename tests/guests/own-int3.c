/* The guest's own int3 in its text is its #BP, before and after the code around it was patched by the VMM. */
#include "lib/rt.h"

CODE(among, "pushf; cli; int3; popf; int3; sgdt 0x7000; int3; nop");
CODE(data, "jmp 1f; .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc; 1: mov $0xcccccccc, %eax; add 1b-4, %eax");
CODE(inside, "xor %eax, %eax; jmp 1f+1; 1: mov $0xcc, %al; inc %eax"); /* the immediate runs as int3 */

static u32 count, start;
static void bp(struct frame *f)
{
	count++;
	say(" #BP at +%u\n", f->eip - start);
}

static void run(const char *name, const void *code)
{
	struct try t;

	start = (u32)code;
	for (int i = 0; i < 2; i++) {
		fresh(&t);
		go0(name, code, &t);
		say(" eax %08x, %u so far\n", t.r.eax, count);
	}
}

int main(void)
{
	on(3, bp);
	run("among", among);
	run("data", data);
	run("inside", inside);
	return 0;
}
