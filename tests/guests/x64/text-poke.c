/* A kernel patches its text as Linux does: int3, the tail, the first byte, through a temporary mapping in another address space, with the code run between the
 * steps (SDM 3, 9.1.3). */
#include "../lib64/rt.h"

CODE(site, "mov $1, %eax; .byte 0x0f, 0x1f, 0x44, 0, 0; site_after: cli; sti; cli");
asm(".pushsection .guest,\"ax\"\nsite_target: mov $2, %eax; jmp site_after\n.popsection");
extern char site_after[], site_target[];
static u64 *poking;
static u32 breaks;
#define POKE 0x0000600000000000ul

static void bp(struct frame *f)
{
	breaks++;
	f->rip = (u64)site_after; /* as if it were the nop */
}

static void poke(u8 *at, const void *bytes, u32 n)
{
	u64 old = read_cr3();

	map(poking, POKE, low(at) & ~4095ul, PG_P | PG_W);
	map(poking, POKE + 4096, (low(at) & ~4095ul) + 4096, PG_P | PG_W);
	use(poking);
	memcpy((void *)(POKE + (low(at) & 4095)), bytes, n);
	*entry(poking, POKE, 1) = 0;
	*entry(poking, POKE + 4096, 1) = 0;
	write_cr3(old);
	invlpg(POKE);
}

static u64 run(void)
{
	struct try t;

	fresh(&t);
	try0(&t, site);
	return t.vector == (u64)-1 ? t.r.rax : 1000 + t.vector;
}

int main(void)
{
	u8 *at = (u8 *)site + 5, jump[5] = { 0xe9 }, nop[5] = { 0x0f, 0x1f, 0x44, 0, 0 };
	int d = (int)(site_target - ((char *)at + 5));

	memcpy(jump + 1, &d, 4);
	pic_init();
	on(3, bp);
	poking = new_root();
	for (int i = 0; i < 60; i++) {
		const u8 *to = i & 1 ? nop : jump;
		u64 a, b, c;

		poke(at, "\xcc", 1);
		a = run();
		poke(at + 1, to + 1, 4);
		b = run();
		poke(at, to, 1);
		c = run();
		if (i < 4 || i == 59)
			say("%d: %lu %lu %lu breaks %u byte %02x\n", i, a, b, c, breaks, *(volatile u8 *)at);
	}
	return 0;
}
