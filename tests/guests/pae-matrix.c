/* P, W, U and NX in directory and table of PAE paging, WP, NXE, ring and kind of access: done or the error code (SDM 3, 4.4, 4.6, 4.7). */
#include "lib/pae.h"

CODE(read_it, "mov (%ebx), %eax");
CODE(write_it, "movb $0xc3, (%ebx)");
enum { VA = 0x40000000 };

static void cell(int ring, const void *code)
{
	struct try t;

	fresh(&t);
	t.r.ebx = VA;
	t.code = code;
	if (!(ring ? try3 : try0)(&t, code))
		say(" --");
	else if (t.vector == 14 && t.cr2 == VA)
		say(" %02x", t.error);
	else
		say(" vector %u cr2 %08x,", t.vector, t.cr2);
}

int main(void)
{
	u64 *root = pae_identity(16, PG_P | PG_W | PG_U), *e = pae_entry(root, VA, 1), *d = pae_entry(root, VA, 2);
	u8 *target = page();
	u64 dir = *d & ~7ull;

	*target = 0xc3; /* ret: the page can be executed too */
	for (u32 mode = 0; mode < 4; mode++) {
		u32 nxe = mode & 1, wp = mode >> 1;

		wrmsr(MSR_EFER, nxe ? EFER_NXE : 0);
		pae_on(root, wp ? CR0_WP : 0);
		say("NXE %u WP %u\n", nxe, wp);
		for (u32 a = 0; a < (nxe ? 16 : 8); a++)
			for (u32 b = 0; b < (nxe ? 16 : 8); b++) {
				*d = dir | (a & 7) | (a & 8 ? PG_NX : 0);
				*e = (u32)target | (b & 7) | (b & 8 ? PG_NX : 0);
				invlpg(VA);
				say("%c%c%c%s %c%c%c%s:", a & 1 ? 'P' : '-', a & 2 ? 'W' : '-', a & 4 ? 'U' : '-', a & 8 ? "X" : "-", b & 1 ? 'P' : '-',
				    b & 2 ? 'W' : '-', b & 4 ? 'U' : '-', b & 8 ? "X" : "-");
				for (int ring = 0; ring < 4; ring += 3) {
					cell(ring, read_it);
					cell(ring, write_it);
					cell(ring, (void *)VA);
				}
				say("\n");
			}
	}
	return 0;
}
