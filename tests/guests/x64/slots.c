/* The guest maps each entry of its PML4 in turn, reads, writes and runs code there, in ring 0 and in ring 3, and then all of them at once: no part of the
 * linear address space is anybody else's (address-space compression; SDM 3, 4.5). */
#include "../lib64/rt.h"

CODE(kernel_code, "mov %cs, %ecx; pushfq; pop %rdx; cli; sti; pushfq; pop %rsi; cli; mov (%rbx), %rax; incq (%rbx); mov $0x600d, %r8d");
CODE(user_code, "mov %cs, %ecx; mov (%rbx), %rax; incq (%rbx); mov $0x600d, %r8d; int $0x30");
static u64 *root, bad;

static u64 address(u64 slot)
{
	u64 a = slot << 39 | 0x5678901000;

	return slot & 256 ? a | 0xffffull << 48 : a;
}

static void in(u64 slot, u64 value)
{
	u64 va = address(slot);
	struct try t;
	int good;

	*(volatile u64 *)va = value;
	fresh(&t);
	t.r.rbx = va;
	good = !try0(&t, (void *)(va + 0x100)) && t.r.rax == value && t.r.r8 == 0x600d && (t.r.rcx & 0xffff) == SEL_KCODE && !(t.r.rdx & F_IF) &&
	       t.r.rsi & F_IF && *(volatile u64 *)va == value + 1;
	if (good) {
		fresh(&t);
		t.r.rbx = va;
		good = good && !try_at(&t, va + 0x800, SEL_UCODE, SEL_UDATA) && t.r.rax == value + 1 && t.r.r8 == 0x600d &&
		       (t.r.rcx & 0xffff) == SEL_UCODE && *(volatile u64 *)va == value + 2;
	}
	if (!good) {
		bad++;
		say("slot %lu: %s error %lx rax %lx\n", slot, vector_name(t.vector), t.error, t.r.rax);
	}
}

int main(void)
{
	u8 *target = page();

	pic_init();
	memcpy(target + 0x100, kernel_code, (u64)(kernel_code_end - kernel_code));
	memcpy(target + 0x800, user_code, (u64)(user_code_end - user_code));
	root = new_root();
	map(root, address(1), low(target), PG_P | PG_W | PG_U);
	u64 first = root[1];

	for (u64 slot = 1; slot < 511; slot++) {
		if (slot > 1)
			root[slot - 1] = 0;
		root[slot] = first;
		use(root);
		in(slot, slot << 16);
		if (slot == 1)
			continue;
		/* The one before is gone. */
		struct try t;

		fresh(&t);
		t.r.rbx = address(slot - 1);
		t.code = kernel_code;
		if (!try0(&t, kernel_code) || t.vector != 14 || t.cr2 != t.r.rbx) {
			bad++;
			say("slot %lu is still there\n", slot - 1);
		}
	}
	check("each slot in turn", bad == 0);
	for (u64 slot = 1; slot < 511; slot++)
		root[slot] = first;
	use(root);
	for (u64 slot = 1; slot < 511; slot++)
		in(slot, slot << 20);
	check("all at once", bad == 0);
	return 0;
}
