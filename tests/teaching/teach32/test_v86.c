/* A monitor for virtual-8086 mode: INT n through the low vectors, CLI, STI, PUSHF, POPF, IRET, HLT and ports by #GP, as with IOPL 0. */
#include "kernel.h"

extern u8 v86_code[], v86_code_end[], v86_handler[];
void v86_enter(struct frame *f);
__attribute__((noreturn)) void v86_leave(void);

static u32 virtual_if, faults, undefined, halts, ticks_inside, ports, ints[256];
static struct { struct tss tss; u8 bitmap[8193]; } wide;

static u16 *word(u32 segment, u32 offset)
{
	u32 address = (segment << 4) + (offset & 0xffff);
	asm("" : "+r"(address));
	return (u16 *)address;
}

static void push16(struct frame *f, u32 value)
{
	f->esp = (f->esp & ~0xffff) | ((f->esp - 2) & 0xffff);
	*word(f->ss, f->esp) = value;
}

static u32 pop16(struct frame *f)
{
	u32 value = *word(f->ss, f->esp);
	f->esp = (f->esp & ~0xffff) | ((f->esp + 2) & 0xffff);
	return value;
}

static u32 image(struct frame *f) { return (f->eflags & ~INTERRUPTS) | (virtual_if ? INTERRUPTS : 0); }

static void set_image(struct frame *f, u32 flags)
{
	virtual_if = flags & INTERRUPTS;
	f->eflags = (f->eflags & ~0x4dd5) | (flags & 0x4dd5);
}

/* A port instruction that the bitmap did not allow: done for the program, COM1's output is only counted. */
static void port(struct frame *f, u32 opcode, u32 number)
{
	ports++;
	switch (opcode) {
	case 0xe4: case 0xec:
		f->eax = (f->eax & ~0xff) | inb(number);
		break;
	case 0xe5: case 0xed:
		f->eax = (f->eax & ~0xffff) | inw(number);
		break;
	case 0xe6: case 0xee:
		if (number == 0x3f8)
			print("com1 in v86: %c\n", f->eax & 0xff);
		else
			outb(number, f->eax);
		break;
	case 0xe7: case 0xef:
		outw(number, f->eax);
		break;
	}
}

static void general(struct frame *f)
{
	u8 *code = (u8 *)(f->cs << 4) + (f->eip & 0xffff);
	u32 wide_operand = 0;

	faults++;
	if (*code == 0x66)
		wide_operand = 1, code++, f->eip++;
	switch (*code) {
	case 0xfa:
		virtual_if = 0;
		f->eip++;
		break;
	case 0xfb:
		virtual_if = 1;
		f->eip++;
		break;
	case 0x9c:
		if (wide_operand)
			push16(f, image(f) >> 16 & ~3);
		push16(f, image(f));
		f->eip++;
		break;
	case 0x9d:
		set_image(f, pop16(f));
		if (wide_operand)
			pop16(f);
		f->eip++;
		break;
	case 0xcf: {
		u32 ip = pop16(f), cs = pop16(f);
		set_image(f, pop16(f));
		f->eip = ip;
		f->cs = cs;
		break;
	}
	case 0xcd:
		if (code[1] == 0xff)
			v86_leave();
		ints[code[1]]++;
		push16(f, image(f));
		push16(f, f->cs);
		push16(f, f->eip + 2);
		virtual_if = 0;
		f->eip = *word(0, code[1] * 4);
		f->cs = *word(0, code[1] * 4 + 2);
		break;
	case 0xf4:
		halts++;
		f->eip++;
		break;
	case 0xe4: case 0xe5: case 0xe6: case 0xe7:
		port(f, *code, code[1]);
		f->eip += 2;
		break;
	case 0xec: case 0xed: case 0xee: case 0xef:
		port(f, *code, f->edx & 0xffff);
		f->eip++;
		break;
	default:
		print("opcode %x\n", *code);
		panic("not for this monitor", f);
	}
}

static void invalid(struct frame *f)
{
	undefined++;
	/* LAR, of three bytes. */
	f->eip += 3;
}

void test_v86(void)
{
	struct frame f = { .eip = 0, .cs = 0x2000, .eflags = VM | INTERRUPTS | 2, .esp = 0x1000, .ss = 0x3000, .v_ds = 0x1234, .v_es = 0x4321, .v_fs = 0xffff, .v_gs = 0xfffe };
	volatile u16 *result = (u16 *)0x20800;
	struct tss before = tss;
	/* Low memory by an expression that the compiler does not take for a null pointer's. */
	u32 *vector = (u32 *)word(0, 0x60 * 4), kept = *vector;

	test("v86");
	/* All of the first MiB and the 64 KiB behind it are the program's. */
	kernel_directory[0] |= USER;
	for (u32 p = 0; p < 0x110000; p += PAGE)
		*page_entry(kernel_directory, p, 0) |= USER;
	write_cr3(read_cr3());
	memcpy((void *)0x20000, v86_code, v86_code_end - v86_code);
	memset((void *)0x20800, 0, 64);
	*vector = 0x2000 << 16 | (u32)(v86_handler - v86_code);
	handlers[13] = general;
	handlers[6] = invalid;
	virtual_if = INTERRUPTS;
	/* The display adapter's ports are the BIOS' own. */
	wide.tss = before;
	wide.tss.iomap = sizeof wide.tss;
	memset(wide.bitmap, 0xff, sizeof wide.bitmap);
	for (u32 p = 0x3c0; p < 0x3e0; p++)
		wide.bitmap[p / 8] &= ~(1 << p % 8);
	tss = wide.tss;
	gdt_set(TSS_MAIN, (u32)&wide, sizeof wide - 1, 0x89);
	asm volatile("ltr %w0" : : "r"(TSS_MAIN));
	/* v86_enter writes the stack's place to "tss", which is not the one in use now. */
	extern u32 v86_tss;
	v86_tss = (u32)&wide.tss;
	pic_mask(0xfffe);
	ticks_inside = ticks;
	v86_enter(&f);
	asm volatile("cli");
	pic_mask(0xffff);
	handlers[13] = handlers[6] = 0;
	*vector = kept;
	gdt_set(TSS_MAIN, (u32)&tss, sizeof tss - 1, 0x89);
	asm volatile("ltr %w0" : : "r"(TSS_MAIN));

	want("flags", result[0] & ~0xcd5, 0x202);
	want("cli", result[1] & INTERRUPTS, 0);
	want("sti", result[2] & INTERRUPTS, INTERRUPTS);
	want("popf", result[3] & 0xfff, 0x246);
	want("pushfd", result[4] & 0xfff, 0x246);
	want("its upper half", result[5], 0);
	want("int 60", result[6] & INTERRUPTS, 0);
	want("sp", result[7], 0x1000);
	want("alias", result[8], result[0]);
	want("wrap", result[9], 0x77);
	want("allowed port", result[10], 0x0e);
	want("self-modifying", result[11], 0x4321);
	want("far call", result[12], 0xbeef);
	want("undefined", undefined, 1);
	want("cursor", result[13], 6);
	want("letter", screen_cell(0, 5) & 0xff, 'V');
	want("memory", result[14], *word(0x40, 0x13));
	want("halts", halts, 1);
	want("own ports", ports, 1);
	want("int 10", ints[0x10], 3);
	want("int 12", ints[0x12], 1);
	want("int 60", ints[0x60], 1);
	test("v86-memory");
	for (u32 p = 0; p < 0x110000; p += PAGE)
		*page_entry(kernel_directory, p, 0) &= ~USER;
	write_cr3(read_cr3());
	want("kernel's own again", *page_entry(kernel_directory, 0x20000, 0) & USER, 0);
}
