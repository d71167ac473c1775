/* PUSH CS/SS/DS/ES/FS/GS show the guest's selectors with its own RPL, in both operand sizes (SDM 2, PUSH). */
#include "lib/rt.h"

#define ALL(p) \
	p "push %cs; mov (%esp), %ax; add $SIZE, %esp; shl $16, %eax;" p "push %ss; mov (%esp), %ax; add $SIZE, %esp;" \
	p "push %ds; mov (%esp), %bx; add $SIZE, %esp; shl $16, %ebx;" p "push %es; mov (%esp), %bx; add $SIZE, %esp;" \
	p "push %fs; mov (%esp), %cx; add $SIZE, %esp; shl $16, %ecx;" p "push %gs; mov (%esp), %cx; add $SIZE, %esp;" \
	"mov %esp, %edx"
CODE(push_32, ".set SIZE, 4;" ALL(""));
CODE(push_16, ".set SIZE, 2;" ALL("data16 "));
CODE(set_fs_gs, "mov $0x38, %eax; mov %eax, %fs; mov $0x43, %eax; mov %eax, %gs; xor %eax, %eax; mov %eax, %ds; mov %eax, %es;"
	".set SIZE, 4;" ALL("") "; mov $0x10, %edi; mov %edi, %ds; mov %edi, %es");

static void show(const char *name, const void *code)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		fresh(&t);
		if (ring)
			go3(name, code, &t);
		else
			go0(name, code, &t);
		say(" ring %u: cs ss %08x ds es %08x fs gs %08x\n", ring, t.r.eax, t.r.ebx, t.r.ecx);
	}
}

int main(void)
{
	struct try t;

	gdt[7] = gdt[2];
	gdt[8] = gdt[4];
	show("32 bits", push_32);
	show("16 bits", push_16);
	fresh(&t);
	go0("others", set_fs_gs, &t);
	say(" cs ss %08x ds es %08x fs gs %08x\n", t.r.eax, t.r.ebx, t.r.ecx);
	return 0;
}
