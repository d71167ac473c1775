/* x87, AVX and areas of extended state, on a page table in use and on the code's own page: as on any other page. */
#include "../lib64/rt.h"

enum { CR4_OSXSAVE = 1 << 18 };

CODE(x87, "fldl (%rsi); fldt 16(%rsi); fstpt (%rbx); fstl 16(%rbx); fistpll 24(%rbx); fnstcw 32(%rbx); fnstenv 40(%rbx)");
CODE(fnsave, "fninit; fldpi; fld1; fnsave (%rbx)");
CODE(frstor, "frstor (%rbx); fstpt (%rsi); fstpt 16(%rsi)");
CODE(fxsave, "fninit; fld1; fxsave (%rbx)");
CODE(fxrstor, "fxrstor (%rbx)");
CODE(xsave, "mov $-1, %eax; mov $-1, %edx; xsave64 (%rbx)");
CODE(xrstor, "mov $-1, %eax; mov $-1, %edx; xrstor64 (%rbx)");
CODE(avx, "vmovdqu (%rsi), %ymm0; vmovups %ymm0, (%rbx); vmovdqu 1(%rsi), %ymm1; vmovdqu %ymm1, 77(%rbx); vextractf128 $1, %ymm0, 128(%rbx)");
CODE(masked, "vmovdqu (%rsi), %ymm0; vmovdqu 32(%rsi), %ymm1; vmaskmovps %ymm0, %ymm1, (%rbx); vpmaskmovq %ymm1, %ymm0, 64(%rbx); vmaskmovps 64(%rbx), %ymm1, %ymm2; vmovdqu %ymm2, 128(%rbx)");
CODE(gather, "vmovdqu (%rdi), %ymm1; vpcmpeqd %ymm2, %ymm2, %ymm2; vpgatherdd %ymm2, (%rsi,%ymm1,4), %ymm0; vmovdqu %ymm0, (%rbx); vmovdqu %ymm2, 32(%rbx)");
CODE(own, "fldl own_constant(%rip); fstpl (%rbx); vmovdqu own_constant(%rip), %ymm3; vmovdqu %ymm3, 16(%rbx); jmp 1f; own_constant: .quad 0x3ff8000000000000, 0x1234, 0x5678, 0x9abc; 1: nop");

static const u64 va = 0x00007f1234500000;
static u64 *root;
static u8 source[256] __attribute__((aligned(64)));

/* The same on the page table, on plain memory, and what they hold then. */
static void same(const char *name, const void *code, u8 *table, u8 *plain, void *from)
{
	struct try t;
	u32 sum = 0;

	for (int i = 0; i < 2; i++) {
		fresh(&t);
		t.r.rsi = (u64)(from ? from : source);
		t.r.rdi = (u64)(source + 64);
		t.r.rbx = (u64)(i ? table : plain);
		go0(name, code, &t);
	}
	/* The last operand's address in FNSTENV's image is another one, and CPUs differ in when they note it. */
	if (code == x87) {
		memset(table + 52, 0, 16);
		memset(plain + 52, 0, 16);
	}
	for (u32 i = 0; i < 1024; i++)
		sum += table[i] != plain[i];
	say(" bytes that differ: %u\n", sum);
}

int main(void)
{
	struct try t;
	u8 *const plain = page();

	write_cr0(read_cr0() | CR0_MP);
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE);
	asm volatile("xsetbv" : : "a"(7), "c"(0), "d"(0));
	root = new_root();
	map(root, va + 511 * 4096, low(plain), PG_P | PG_W | PG_U);
	u8 *const table = (u8 *)((u64)entry(root, va, 1) & ~0xffful);
	use(root);
	for (u32 i = 0; i < 256; i++)
		source[i] = i * 37 + 11;
	memcpy(source, (const u64[]){ 0x4009000000000000, 0, 0xc000000000000000, 0x4001 }, 32);
	for (u32 i = 0; i < 8; i++)
		((u32 *)(source + 64))[i] = i * 3;

	asm volatile("fninit");
	same("x87", x87, table, plain, 0);
	same("fnsave", fnsave, table, plain, 0);
	fresh(&t);
	t.r.rsi = (u64)source + 128;
	t.r.rbx = (u64)table;
	go0("frstor", frstor, &t);
	check(" st0", source[137] == 0x3f && source[136] == 0xff);
	check(" st1", source[153] == 0x40 && source[152] == 0x00);
	same("fxsave", fxsave, table, plain, 0);
	same("fxrstor", fxrstor, table, plain, 0);
	memset(table, 0, 1024);
	memset(plain, 0, 1024);
	asm volatile("vmovdqu %0, %%ymm5; vmovdqu %0, %%ymm14" : : "m"(*(u8(*)[32])source));
	same("xsave", xsave, table, plain, 0);
	asm volatile("vzeroall");
	fresh(&t);
	t.r.rbx = (u64)table;
	go0("xrstor", xrstor, &t);
	asm volatile("vmovdqu %%ymm14, %0" : "=m"(*(u8(*)[32])(source + 192)));
	check(" ymm14", !memcmp(source, source + 192, 32));
	memset(table, 0, 1024);
	memset(plain, 0, 1024);
	same("avx", avx, table, plain, 0);
	same("masked", masked, table, plain, 0);
	/* Gathers read from code. */
	memset(table, 0, 1024);
	memset(plain, 0, 1024);
	same("gather", gather, table, plain, (void *)((u64)x87 & ~3ul));
	same("own", own, table, plain, 0);
	say("%lx %lx %lx\n", ((u64 *)table)[0], ((u64 *)table)[3], ((u64 *)table)[5]);
	return 0;
}
