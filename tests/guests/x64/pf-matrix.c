/* P, W, U and NX at each of the four levels, WP, ring and kind of access, in the low and the high half: done or the error code
 * (SDM 3, 4.6, 4.7). */
#include "../lib64/rt.h"

CODE(read_it, "mov (%rbx), %al");
CODE(write_it, "movb $0xc3, (%rbx)");
static u64 va;

static void cell(int ring, const void *code)
{
	struct try t;
	int event;

	fresh(&t);
	t.r.rbx = va;
	t.code = code;
	if (!code && ring)
		event = (t.r.rsp -= 8, *(u64 *)t.r.rsp = low(user_stack_top) - 4096, try_at(&t, va, SEL_UCODE, SEL_UDATA));
	else if (ring)
		event = try3(&t, code);
	else
		event = try0(&t, code ? code : (void *)va);
	if (!event)
		say(" --");
	else if (t.vector == 14 && t.cr2 == va)
		say(" %02lx", t.error);
	else
		say(" vector %lu cr2 %016lx,", t.vector, t.cr2);
}

int main(void)
{
	static const u64 addresses[] = { 0x00007f1234567000, 0xffffc90012345000 };
	u8 *target = page();

	/* What the fetched ret goes back to in ring 3. */
	*(u16 *)(user_stack_top - 4096) = 0x30cd;
	*target = 0xc3; /* ret: the page can be executed too */
	say("level, its bits: ring 0 read write fetch, ring 3 read write fetch\n");
	for (int half = 0; half < 2; half++) {
		u64 *root = new_root();

		va = addresses[half];
		for (u32 wp = 0; wp < 2; wp++) {
			write_cr0((read_cr0() & ~CR0_WP) | (wp ? CR0_WP : 0));
			say("%016lx WP %u\n", va, wp);
			for (int level = 1; level <= 4; level++)
				for (u32 bits = 0; bits < 16; bits++) {
					map(root, va, low(target), PG_P | PG_W | PG_U);
					u64 *e = entry(root, va, level), old = *e;

					*e = (old & ~7ul) | (bits & 7) | (bits & 8 ? PG_NX : 0);
					use(root);
					say("%d %c%c%c%s:", level, bits & 1 ? 'P' : '-', bits & 2 ? 'W' : '-', bits & 4 ? 'U' : '-', bits & 8 ? " NX" : "   ");
					for (int ring = 0; ring < 4; ring += 3) {
						cell(ring, read_it);
						cell(ring, write_it);
						cell(ring, 0);
					}
					say("\n");
					*e = old;
				}
		}
	}
	return 0;
}
