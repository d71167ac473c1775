/* Segments loaded from an LDT stay usable when LDTR goes null or to another table (SDM 3, 3.4.3), in 64-bit code and in compatibility mode; bases
 * of FS and GS that are set later stay as well. */
#include "../lib64/rt.h"

u64 words[4] USER = { 0x100, 0x101, 0x102, 0x103 };
static u64 other[2];
CODE(read, "mov %fs:0, %rax; mov %gs:0, %rbx; mov %fs, %ecx; mov %gs, %edx");
CODE(read0, "cli; pushfq; pop %rsi; mov %fs:0, %rax; mov %gs:0, %rbx; mov %fs, %ecx; mov %gs, %edx");
CODE32(read32, "mov %fs:0, %eax; mov %gs:0, %ebx; mov %fs, %ecx; mov %gs, %edx");
CODE(reload, "mov %gs, %eax; mov %eax, %gs");

static void show1(const char *name, int (*run)(const char *, const void *, struct try *), const void *code)
{
	struct try t;

	fresh(&t);
	run(name, code, &t);
	say(" %x %x fs %04x gs %04x\n", (u32)t.r.rax, (u32)t.r.rbx, (u32)t.r.rcx, (u32)t.r.rdx);
}

static void show(const char *name)
{
	say("%s\n", name);
	show1(" 64-bit, 0", go0, read0);
	show1(" 64-bit, 3", go3, read);
	show1(" compat", go32, read32);
}

int main(void)
{
	u32 at = (u32)low(words);

	ldt[1] = descriptor(at, 0xfffff, 0xf3, FLAG_G | FLAG_D);
	ldt[5] = descriptor(at + 8, 0xfffff, 0xf3, FLAG_G | FLAG_D);
	other[1] = descriptor(at + 16, 0xfffff, 0xf3, FLAG_G | FLAG_D);
	system_descriptor(&gdt[SEL_FREE / 8], (u64)other, sizeof other - 1, 0x82);
	system_descriptor(&gdt[SEL_LDT / 8], (u64)ldt, sizeof ldt - 1, 0x82);
	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	asm volatile("mov %w0, %%fs; mov %w1, %%gs" : : "r"(0xf), "r"(0x2f));
	show("its own table");
	asm volatile("lldt %w0" : : "r"(SEL_FREE));
	show("a shorter table");
	asm volatile("lldt %w0" : : "r"(0));
	show("no table");
	wrmsr(MSR_FS_BASE, at + 24);
	wrmsr(MSR_GS_BASE, at + 16);
	show("no table, new bases");
	show1("reload", go0, reload);
	return 0;
}
