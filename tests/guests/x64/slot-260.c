/* The kernel's tables, stacks, GDT, IDT and TSS at the very place where a VMM may live (PML4 entry 260), in use from there: an address is nothing but an
 * address (address-space compression). */
#include "../lib64/rt.h"

#define SLOT 0xffff820000000000ul
CODE(kernel_code, "pushfq; pop %rax; mov %cs, %ecx; sgdt (%rbx); int3; cli; sti; cli; str %edx");
CODE(user_read, "mov (%rbx), %rax");
CODE(user_write, "movq $0, (%rbx)");
CODE(user_run, "jmp *%rbx");
static u32 breaks;

static void bp(struct frame *f)
{
	breaks += f->cs == SEL_KCODE;
}

int main(void)
{
	u64 *root = new_root();
	struct try t;

	pic_init();
	/* The first 64 MiB again, in 4 KiB pages, so that every page has a table entry of its own. */
	for (u64 a = 0; a < 64 << 20; a += 4096)
		map(root, SLOT + a, a, PG_P | PG_W);
	use(root);
	struct dtr g = { sizeof gdt - 1, SLOT + low(gdt) }, i = { sizeof idt - 1, SLOT + low(idt) };

	for (int v = 0; v < 256; v++)
		idt[v] = gate(SEL_KCODE, SLOT + low(stub(v)), v == VEC_DONE || v == 3 ? GATE_INT | GATE_DPL3 : GATE_INT, v == 3 ? 1 : 0);
	asm volatile("lgdt %0; lidt %1" : : "m"(g), "m"(i));
	system_descriptor(gdt + SEL_TSS / 8, SLOT + low(tss), TSS_LIMIT_NO_BITMAP, 0x89);
	asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
	tss->ist[0] = SLOT + low((void *)ist_stack(1));
	on(3, bp);
	for (int round = 0; round < 3; round++) {
		fresh(&t);
		t.r.rbx = SLOT + 0x70000;
		go0("code in the slot", (void *)(SLOT + low(kernel_code)), &t);
		say(" rflags %lx cs %lx tr %lx breaks %u gdt base %s\n", t.r.rax & ~(u64)F_ARITH, t.r.rcx & 0xffff, t.r.rdx, breaks,
		    *(u64 *)virt(0x70002) == g.base ? "in the slot" : "elsewhere");
		fresh(&t);
		t.r.rbx = SLOT + 0x100000;
		go3("ring 3 reads it", user_read, &t);
		fresh(&t);
		t.r.rbx = SLOT + low(gdt);
		t.code = user_write;
		try3(&t, user_write);
		say("ring 3 writes it: %s error %lx", vector_name(t.vector), t.error);
		say(" at the gdt: %s\n", t.cr2 == SLOT + low(gdt) ? "right" : "WRONG");
		fresh(&t);
		t.r.rbx = SLOT + 0x101000;
		go3("ring 3 runs it", user_run, &t);
	}
	return 0;
}
