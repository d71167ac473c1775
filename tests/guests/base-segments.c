/* CS, DS and SS with a base that is not 0, sensitive instructions in them, exceptions out of them (SDM 3, 3.4.5). */
#include "lib/rt.h"

enum { BASE = 0x00010000 };
extern char in_based[], in_based_end[];
/* Runs with CS base BASE: reached by far call, left by far return. */
asm(".pushsection .guest,\"ax\"\nin_based: push %cs\npop %eax\npushf\ncli\npopf\nmov %cs, %edx\ncall 1f\n1: pop %ecx\nsub %esi, %ecx\nlret\nin_based_end:\n.popsection");

u32 based_far[2];
CODE(enter_based, "lcall *based_far");
CODE(enter_fault, "movl $2f, based_far; sub %esi, based_far; lcall *based_far; jmp 1f; 2: nop; ud2; 1: nop");
CODE(with_ds, "mov $0x40, %eax; mov %eax, %ds; sgdt 0x7000; mov 0x7010, %ebx; cli; pushf; pop %ecx; mov %ss, %eax; mov %eax, %ds");
CODE(with_ss, "mov %esp, %ebp; mov %ss, %edi; mov $0x40, %eax; sub %esi, %esp; mov %eax, %ss; pushf; pop %ecx; push %cs; pop %edx;"
	"cli; pushf; popf; push $0x1234; pop %ebx; mov %ss, %eax; mov %edi, %ss; mov %ebp, %esp");
CODE(with_fs, "mov $0x40, %eax; mov %eax, %fs; mov %fs:0x7010, %ebx; sgdt %fs:0x7000; smsw %fs:0x7020; mov %fs:0x7020, %cx");


static void show(const char *name, const void *code)
{
	struct try t;

	fresh(&t);
	t.r.esi = BASE;
	go0(name, code, &t);
	if (t.vector != (u32)-1)
		say(" cs %04x eip past the start %u\n", t.cs, t.eip + BASE - (u32)code);
	else
		say(" eax %04x ebx %08x ecx %08x edx %04x\n", t.r.eax & 0xffff, t.r.ebx, t.r.ecx, t.r.edx & 0xffff);
}

int main(void)
{
	struct try t;

	gdt[7] = descriptor(BASE, 0xfffff, 0x9b, FLAG_G | FLAG_D);
	gdt[8] = descriptor(BASE, 0xfffff, 0x93, FLAG_G | FLAG_D);
	*(u32 *)(BASE + 0x7010) = 0x76543210;
	for (int i = 0; i < 2; i++) {
		based_far[0] = (u32)in_based - BASE;
		based_far[1] = 7 * 8;
		fresh(&t);
		t.r.esi = (u32)in_based - BASE;
		go0("cs", enter_based, &t);
		say(" eax %04x edx %04x eip +%u\n", t.r.eax & 0xffff, t.r.edx & 0xffff, t.r.ecx);
		memset((void *)(BASE + 0x7000), 0, 8);
		show("ds", with_ds);
		say(" sgdt limit %04x\n", *(u16 *)(BASE + 0x7000));
		show("ss", with_ss);
		show("fs", with_fs);
	}
	fresh(&t);
	t.r.esi = BASE;
	based_far[1] = 7 * 8;
	t.code = (char *)enter_fault - BASE;
	if (try0(&t, enter_fault))
		report("fault in cs", &t);
	say(" cs %04x\n", t.cs);
	return 0;
}
