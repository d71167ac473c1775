/* INT n within handlers of INT n: each IRET brings back all flags of its frame, however often the same one runs (SDM 2, IRET). */
#include "lib/rt.h"

enum { ROUNDS = 24, DEPTH = 4 };

static const u32 flags[] = {
	2, F_IF, F_IOPL, F_NT, F_AC, F_DF, F_ID, F_ARITH, F_ARITH | F_DF | F_IF | F_ID, F_IF | F_IOPL | F_AC, F_IF | F_NT | F_CF,
};
enum { COUNT = sizeof flags / sizeof *flags };
static volatile u32 depth, bad, ticks, in_frame, in_handler;
static u32 round_;

/* EFLAGS behind an INT that was executed with these. */
static u32 through(u32 f)
{
	u32 after;

	asm volatile("push %1; popf; int $0x40; pushf; pop %0; push $2; popf" : "=r"(after) : "r"(f) : "memory", "cc");
	return after;
}

static void nested(struct frame *f)
{
	in_frame = f->eflags & ~F_RF; /* TCG sets RF in the frame of a timer interrupt, which may return to this INT */
	in_handler = read_flags() & F_SYSTEM;
	if (++depth < DEPTH) {
		u32 other = flags[(round_ + depth) % COUNT], kept = in_frame, own = in_handler;

		if (through(other) != (other | 2))
			bad++;
		in_frame = kept;
		in_handler = own;
	}
	depth--;
}

/* Comes at any place where IF is 1. */
static void tick(struct frame *f)
{
	ticks++;
	if (!(f->eflags & F_IF) || (f->cs & 0xffff) != SEL_KCODE || (read_flags() & F_SYSTEM & ~(F_AC | F_IOPL)))
		bad++;
	pic_eoi(0);
}

/* rvmm's host tests send it; a bare machine has none. */
static void nmi(struct frame *f)
{
	(void)f;
}

int main(void)
{
	u32 first[COUNT][3];

	paging_on(identity_map(16, PG_P | PG_W), CR0_WP);
	on(0x40, nested);
	on(2, nmi);
	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	pit_start(2000);
	for (round_ = 0; round_ < ROUNDS; round_++) {
		for (int i = 0; i < COUNT; i++) {
			u32 after = through(flags[i]), now[3] = { in_frame, in_handler, after };

			if (!round_)
				memcpy(first[i], now, sizeof now);
			else if (memcmp(first[i], now, sizeof now))
				bad++;
		}
	}
	pit_stop();
	for (int i = 0; i < COUNT; i++)
		say("%08x: frame %08x, handler %08x, behind it %08x\n", flags[i] | 2, first[i][0], first[i][1], first[i][2]);
	check("every return brought its flags back", bad == 0);
	return 0;
}
