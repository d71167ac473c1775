/* Pieces of 16-bit code run in real mode: the way there and back, and what ended them.
 *
 * A piece lies at 0800:0000. It ends by INT 30, or by the exception it raises; both come by the interrupt vector table, whose handlers
 * keep the registers. Below 640 KiB it finds a stack at 1000:0000, DS = 2000, ES = 3000, FS = 4000, GS = 5000. */
#ifndef REAL_H
#define REAL_H

#include "rt.h"

struct real {
	u32 edi, esi, ebp, ebx, edx, ecx, eax, esp;
	u16 ss, gs, fs, es, ds;
	u16 ip, cs, flags; /* in the order of an interrupt's frame */
	u16 vector;
	u16 pm_ds, pm_fs, pm_gs; /* loaded into DS and ES, FS, GS in protected mode, on the way: limits stay */
};

enum { REAL_STATE = 0x6000, REAL_CODE = 0x7000, REAL_STACK = 0x6ff0, REAL_PIECE = 0x8000, REAL_END = 0x30 };
enum { REAL_CODE16 = 0x1e0, REAL_DATA16 = 0x1e8 }; /* selectors */

#define CODE16(name, text) \
	extern char name[], name##_end[]; \
	asm(".pushsection .guest,\"ax\"\n.code16\n" #name ":\n" text "\nint $0x30\n" #name "_end:\n.code32\n.popsection")

extern char real_low[], real_low_end[], real_stubs[];
void real_enter(void);
/* Everything from real_low to real_low_end is copied to REAL_CODE, and runs with CS = 0 there. */
asm(".text\n"
    "real_enter: pushal\n mov %esp, real_esp\n lidt real_ivt\n ljmp $0x1e0, $0x7000\n"
    "real_back: mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %fs\n mov %eax, %gs\n mov %eax, %ss\n"
    "mov real_esp, %esp\n lidt real_idt\n popal\n ret\n"
    ".balign 16\n.code16\n"
    "real_low: mov $0x1e8, %ax\n mov %ax, %ss\n mov %cs:0x6032, %ds\n mov %cs:0x6032, %es\n mov %cs:0x6034, %fs\n mov %cs:0x6036, %gs\n"
    "mov %cr0, %eax\n and $~1, %al\n mov %eax, %cr0\n ljmp $0, $(1f - real_low + 0x7000)\n"
    "1: xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x6ff0, %sp\n"
    "pushw 0x602e\n popfw\n"
    "mov 0x6000, %edi\n mov 0x6004, %esi\n mov 0x6008, %ebp\n mov 0x600c, %ebx\n mov 0x6010, %edx\n mov 0x6014, %ecx\n"
    "mov 0x6022, %gs\n mov 0x6024, %fs\n mov 0x6026, %es\n mov 0x6018, %eax\n"
    "lssl 0x601c, %esp\n mov %cs:0x6028, %ds\n ljmpw *%cs:0x602a\n"
    /* Here an event's stub has pushed its vector above IP, CS and FLAGS. */
    "2: mov %eax, %cs:0x6018\n popw %cs:0x6030\n popw %cs:0x602a\n popw %cs:0x602c\n popw %cs:0x602e\n"
    "mov %edi, %cs:0x6000\n mov %esi, %cs:0x6004\n mov %ebp, %cs:0x6008\n mov %ebx, %cs:0x600c\n mov %edx, %cs:0x6010\n"
    "mov %ecx, %cs:0x6014\n mov %esp, %cs:0x601c\n mov %ss, %cs:0x6020\n mov %gs, %cs:0x6022\n mov %fs, %cs:0x6024\n"
    "mov %es, %cs:0x6026\n mov %ds, %cs:0x6028\n"
    "xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x6ff0, %sp\n lgdtl %cs:(real_gdt - real_low + 0x7000)\n"
    "mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $8, $real_back\n"
    "real_gdt: .word 511\n .long gdt\n"
    ".balign 8\nreal_stubs:\n vector = 0\n .rept 64\n pushw $vector\n jmp 2b\n .balign 8\n vector = vector + 1\n .endr\n"
    "real_low_end:\n.code32\n"
    ".data\nreal_ivt: .word 0x3ff\n .long 0\nreal_idt: .word 2047\n .long idt\nreal_esp: .long 0\n.text\n");

static struct real *const real = (void *)REAL_STATE;

/* Far pointer in the table. */
static inline void real_vector(int n, u16 cs, u16 ip)
{
	((volatile u32 *)4)[n - 1] = (u32)cs << 16 | ip;
}

static inline void real_init(void)
{
	gdt[REAL_CODE16 / 8] = descriptor(0, 0xffff, 0x9b, 0);
	gdt[REAL_DATA16 / 8] = descriptor(0, 0xffff, 0x93, 0);
	outb(0x21, 0xff); /* the firmware's vectors of interrupts are ours now */
	outb(0xa1, 0xff);
	memcpy((void *)REAL_CODE, real_low, real_low_end - real_low);
	for (int n = 0; n < 64; n++)
		real_vector(n, 0, REAL_CODE + (real_stubs - real_low) + 8 * n);
}

/* Fresh registers. */
static inline void real_fresh(void)
{
	*real = (struct real){
		.edi = 0xd1d10000, .esi = 0x51510000, .ebp = 0xb9b90000, .ebx = 0xb0b00000, .edx = 0xd0d00000, .ecx = 0xc0c00000,
		.eax = 0xa0a00000, .ss = 0x1000, .gs = 0x5000, .fs = 0x4000, .es = 0x3000, .ds = 0x2000, .cs = REAL_PIECE >> 4, .flags = 2,
		.pm_ds = REAL_DATA16, .pm_fs = REAL_DATA16, .pm_gs = REAL_DATA16,
	};
}

static inline void real_piece(const char *code, const char *end)
{
	memcpy((void *)REAL_PIECE, code, end - code);
}

static inline void real_report(const char *name)
{
	if (real->vector == REAL_END)
		say("%s: done", name);
	else
		say("%s: %s at %04x:%04x", name, vector_name(real->vector), real->cs, real->ip);
	say(" sp %04x\n", real->esp & 0xffff);
}

/* Runs a piece with what real_fresh() and the caller have put into the registers. */
#define REAL(c) (real_piece(c, c##_end), real_enter(), real_report(#c))
#define FRESH_REAL(c) (real_fresh(), REAL(c))

#endif
