/* A program's instruction of one byte that faults at the end of a page, before one that is absent: whoever looks for a longer instruction there must not
 * find more than there is (SDM 2, SYSENTER and INT n are two bytes long). Often, so that faults of programs are lent. */
#include "../lib64/rt.h"

#define VA 0x40000000

int main(void)
{
	static const u8 bytes[] = { 0xf4, 0xfa, 0xec, 0x06, 0x0e, 0xcc, 0x0f, 0xcd };
	struct try t;
	u64 *root = new_root();
	u8 *code = page();

	map(root, VA, low(code), PG_P | PG_U | PG_W | PG_A | PG_D);
	use(root);
	wrmsr(0x174, SEL_KCODE);
	wrmsr(0x175, (u64)code);
	wrmsr(0x176, (u64)ist_stack);
	for (u32 i = 0; i < sizeof bytes; i++)
		for (int compat = 0; compat < 2; compat++) {
			code[4095] = bytes[i];
			for (int n = 0; n < 40; n++) {
				fresh(&t);
				try_at(&t, VA + 4095, compat ? SEL_UCODE32 : SEL_UCODE, SEL_UDATA);
			}
			say("%02x %s: %s %04lx at %lx", bytes[i], compat ? "compat" : "long", vector_name(t.vector), t.error, t.rip);
			say(t.vector == 14 ? " cr2 %lx\n" : "\n", t.cr2);
		}
	return 0;
}
