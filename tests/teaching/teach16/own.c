/* Own interrupts: a service by INT 21h, exceptions of real mode by the table at 0 and by one elsewhere, single steps. */
#include "kernel.h"

static volatile u32 characters, codes[8], steps;
extern u8 int21[], on_divide[], on_bound[], on_step[], on_breakpoint[], on_undefined[], on_overflow[];

/* AH = 2 prints DL, 9 the text at DS:DX up to "$"; 30 gives a version; else carry, in the flags that IRET takes back. */
void put_character(u32 c) { put(c); characters++; }
asm(".text\nint21: cmpb $2, %ah\nje 2f\ncmpb $9, %ah\nje 9f\ncmpb $0x30, %ah\nje 3f\n"
	"pushw %bp\nmovw %sp, %bp\norw $1, 6(%bp)\npopw %bp\niretw\n"
	"2: sti\npushal\nmovzbl %dl, %eax\npushl %eax\ncalll put_character\npopl %eax\npopal\niretw\n"
	"9: sti\npushal\nmovw %dx, %si\n1: lodsb\ncmpb $'$', %al\nje 4f\nmovzbl %al, %eax\npushl %esi\npushl %eax\ncalll put_character\npopl %eax\npopl %esi\njmp 1b\n4: popal\niretw\n"
	"3: movw $0x0a03, %ax\npushw %bp\nmovw %sp, %bp\nandw $0xfffe, 6(%bp)\npopw %bp\niretw\n"
	/* Faults: behind the instruction, which has two bytes. */
	"on_divide: incl %cs:codes\npushw %bp\nmovw %sp, %bp\naddw $2, 2(%bp)\npopw %bp\niretw\n"
	"on_breakpoint: incl %cs:codes + 4\niretw\n"
	"on_overflow: incl %cs:codes + 8\niretw\n"
	"on_bound: incl %cs:codes + 12\npushw %bp\nmovw %sp, %bp\naddw $3, 2(%bp)\npopw %bp\niretw\n"
	"on_undefined: incl %cs:codes + 16\npushw %bp\nmovw %sp, %bp\naddw $2, 2(%bp)\npopw %bp\niretw\n"
	"on_step: incl %cs:steps\ncmpl $5, %cs:steps\njne 1f\npushw %bp\nmovw %sp, %bp\nandw $0xfeff, 6(%bp)\npopw %bp\n1: iretw\n");

void test_own_interrupts(void)
{
	static const char text[] = "printed by INT 21h\r\n$";
	struct registers r = { .eax = 0x0900, .edx = (u32)text };
	u32 before = vector(0x21);

	test("int-21");
	vector_set(0x21, here(int21));
	interrupt(0x21, &r);
	want("characters", characters, sizeof text - 2);
	r = (struct registers){ .eax = 0x0200, .edx = '*' };
	interrupt(0x21, &r);
	put('\n');
	r = (struct registers){ .eax = 0x3000 };
	interrupt(0x21, &r);
	want("version", r.eax, 0x0a03);
	want("no carry", r.flags & 1, 0);
	r = (struct registers){ .eax = 0x7700 };
	interrupt(0x21, &r);
	want("carry", r.flags & 1, 1);
	vector_set(0x21, before);

	test("exceptions");
	u32 kept[7];
	for (u32 i = 0; i < 7; i++)
		kept[i] = vector(i);
	vector_set(0, here(on_divide));
	vector_set(1, here(on_step));
	vector_set(3, here(on_breakpoint));
	vector_set(4, here(on_overflow));
	vector_set(5, here(on_bound));
	vector_set(6, here(on_undefined));
	u16 bounds[2] = { 1, 5 };
	asm volatile("xorw %%cx, %%cx\ndiv %%cl\nint3\nmovb $0x7f, %%al\nincb %%al\ninto\nmovw $9, %%ax\nboundw %%ax, (%0)\nud2"
		: : "b"(bounds) : "eax", "ecx", "memory", "cc");
	want("divide", codes[0], 1);
	want("breakpoint", codes[1], 1);
	want("overflow", codes[2], 1);
	want("bound", codes[3], 1);
	want("undefined", codes[4], 1);
	asm volatile("pushfw\npopw %%ax\norw $0x100, %%ax\npushw %%ax\npopfw\nnop\nnop\nnop\nnop\nnop\nnop\nnop" : : : "eax", "memory", "cc");
	want("steps", steps, 5);

	test("moved-table");
	/* The table elsewhere, at an odd address. */
	static u8 table[1025];
	for (u32 i = 0; i < 512; i++)
		*(u16 *)(table + 1 + i * 2) = far_word(0, i * 2);
	struct { u16 limit; u32 base; } __attribute__((packed)) moved = { 1023, (SEGMENT << 4) + (u32)table + 1 }, usual = { 1023, 0 };
	vector_set(0, kept[0]);
	asm volatile("cli; lidtl %0; xorw %%cx, %%cx; div %%cl; sti; hlt; cli; lidtl %1; sti" : : "m"(moved), "m"(usual) : "eax", "ecx", "memory", "cc");
	want("divide", codes[0], 2);
	for (u32 i = 0; i < 7; i++)
		vector_set(i, kept[i]);
}
