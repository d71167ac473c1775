/* 2 MiB pages of PAE paging, whether CR4.PSE is set or not, global ones, A and D (SDM 3, 4.4.2). */
#include "lib/pae.h"

enum { VA = 0xc0000000u };
CODE(tag, "mov $0x600d, %eax; mov %cs, %ecx");

int main(void)
{
	u64 *root = pae_identity(16, PG_P | PG_W);
	volatile u32 *const at = (u32 *)VA;
	struct try t;

	for (u32 i = 0; i < 4; i++)
		*(u32 *)((20 << 20) + (i << 21)) = 0x1000 + i;
	memcpy((void *)((20 << 20) + 0x1000), tag, (u32)(tag_end - tag));
	pae_on(root, CR0_WP);
	for (int pse = 0; pse < 2; pse++) {
		write_cr4(CR4_PAE | (pse ? CR4_PSE : 0));
		for (u32 i = 0; i < 4; i++)
			*pae_entry(root, VA + (i << 21), 2) = ((20 << 20) + (i << 21)) | PG_P | PG_W | PG_PS;
		write_cr3(read_cr3());
		for (u32 i = 0; i < 4; i++)
			say("%u: %x\n", i, at[i << 19]);
		at[4] = 5;
		say("0 A %u D %u, 1 A %u D %u\n", (u32)*pae_entry(root, VA, 2) >> 5 & 1, (u32)*pae_entry(root, VA, 2) >> 6 & 1,
		    (u32)*pae_entry(root, VA + (1 << 21), 2) >> 5 & 1, (u32)*pae_entry(root, VA + (1 << 21), 2) >> 6 & 1);
		fresh(&t);
		go0("code", (void *)(VA + 0x1000), &t);
		say(" %x %x\n", t.r.eax, t.r.ecx & 0xffff);
		wrmsr(MSR_EFER, EFER_NXE);
		*pae_entry(root, VA, 2) |= PG_NX;
		write_cr3(read_cr3()); /* INVLPG drops all of a large page, but TCG's only 4 KiB */
		go0("code with NX", (void *)(VA + 0x1000), 0);
		*pae_entry(root, VA, 2) = 0;
		*pae_entry(root, VA, 1) = 22 << 20 | PG_P;
		invlpg(VA);
		say("4 KiB: %x\n", *at);
		*pae_entry(root, VA, 2) = 0;
		invlpg(VA);
	}
	return 0;
}
