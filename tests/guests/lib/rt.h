/* The micro-guests' runtime: what every guest may use. One image = this library + one guest file.
 *
 * A guest prints what it observed and returns a status from main(); 0 is success. It prints only what
 * the architecture defines and what it set up itself, so that the output is the same on every CPU. */
#ifndef RT_H
#define RT_H

#include "base.h"

/* ---- descriptor tables -------------------------------------------------------------------------- */

enum {
	SEL_KCODE = 0x08, SEL_KDATA = 0x10, SEL_UCODE = 0x1b, SEL_UDATA = 0x23, SEL_TSS = 0x28, SEL_LDT = 0x30,
	SEL_FREE = 0x38, /* first selector for the guest's own descriptors */
	GDT_ENTRIES = 64,
	VEC_DONE = 0x30, /* ring 3's way out of try3() */
};

struct __attribute__((packed)) dtr { u16 limit; u32 base; };
struct tss { u32 prev, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, regs[8], segs[6], ldt; u16 trap, iomap; };

extern u64 gdt[GDT_ENTRIES], idt[256], ldt[16];
/* The TSS with an I/O permission bitmap for ports 0..0xFFF behind it (all ones: denied). */
extern struct tss *const tss;
extern u8 *const io_bitmap;
enum { TSS_LIMIT_NO_BITMAP = 103, TSS_LIMIT_BITMAP = 104 + 512 };

/* Descriptor from base, limit in bytes - 1 or pages - 1 (flags & G), access byte and flags (high nibble: G D L AVL). */
u64 descriptor(u32 base, u32 limit, u8 access, u8 flags);
enum { FLAG_G = 8, FLAG_D = 4, FLAG_AVL = 1 };
enum { ACC_P = 0x80, ACC_DPL3 = 0x60, ACC_S = 0x10, ACC_CODE = 0x0a, ACC_DATA = 0x02, ACC_A = 1 };
u64 gate(u16 sel, const void *entry, u8 access);
enum { GATE_INT = 0x8e, GATE_TRAP = 0x8f, GATE_DPL3 = 0x60 };
void set_gate(int vector, const void *entry, u8 access);
/* The runtime's own entry stub of a vector. */
const void *stub(int vector);
void load_gdt(void);
void load_idt(void);
void load_tss(u16 limit);

/* ---- events -------------------------------------------------------------------------------------- */

struct frame {
	u32 gs, fs, es, ds;
	u32 edi, esi, ebp, esp_dummy, ebx, edx, ecx, eax;
	u32 vector, error, eip, cs, eflags;
	u32 esp, ss; /* only if (cs & 3) differs from the handler's ring */
};
typedef void handler(struct frame *f);
/* Called instead of the default for this vector; it returns to the interrupted code. 0 restores the default. */
void on(int vector, handler *h);
/* ESP of the interrupted code. */
u32 frame_esp(const struct frame *f);
/* "#GP" etc. */
const char *vector_name(u32 vector);

/* ---- trying a piece of code --------------------------------------------------------------------- */

struct regs { u32 edi, esi, ebp, esp, ebx, edx, ecx, eax, eflags; };
struct try {
	struct regs r;     /* in and out */
	u32 vector;        /* -1: none (try0) or VEC_DONE (try3): the code came to its end */
	u32 error, eip, cs, ss, cr2;
	const char *code;
};
int try0(struct try *t, const void *code);
int try3(struct try *t, const void *code);
/* Fresh registers: recognisable values, ring 3's stack, EFLAGS with IF off. */
void fresh(struct try *t);
/* fresh() + try0/try3 + report(). Returns what they return. */
int go0(const char *name, const void *code, struct try *t);
int go3(const char *name, const void *code, struct try *t);
/* Print "name: done" or "name: #GP 0000 at +0", with CR2 for #PF. */
void report(const char *name, const struct try *t);

/* The same code in both rings. */
#define BOTH(c) (go0(#c " ring 0", c, 0), go3(#c " ring 3", c, 0))

/* A piece of code for the above, on pages of its own. `end` of each is a global label name_end. */
#define CODE(name, text) \
	extern char name[], name##_end[]; \
	asm(".pushsection .guest,\"ax\"\n.globl " #name "\n.globl " #name "_end\n" #name ":\n" text "\nret\n" #name "_end:\n.popsection")

extern char user_stack_top[];

/* EFLAGS bits. */
enum {
	F_CF = 1, F_PF = 4, F_AF = 16, F_ZF = 64, F_SF = 128, F_TF = 0x100, F_IF = 0x200, F_DF = 0x400, F_OF = 0x800,
	F_IOPL = 0x3000, F_NT = 0x4000, F_RF = 0x10000, F_VM = 0x20000, F_AC = 0x40000, F_ID = 0x200000,
	F_ARITH = F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF,
	F_SYSTEM = F_TF | F_IF | F_DF | F_IOPL | F_NT | F_VM | F_AC,
};

/* ---- control registers --------------------------------------------------------------------------- */

#define CR(n) \
	static inline u32 read_cr##n(void) { u32 v; asm volatile("mov %%cr" #n ",%0" : "=r"(v)); return v; } \
	static inline void write_cr##n(u32 v) { asm volatile("mov %0,%%cr" #n : : "r"(v) : "memory"); }
CR(0) CR(2) CR(3) CR(4)
#undef CR
#define DR(n) \
	static inline u32 read_dr##n(void) { u32 v; asm volatile("mov %%dr" #n ",%0" : "=r"(v)); return v; } \
	static inline void write_dr##n(u32 v) { asm volatile("mov %0,%%dr" #n : : "r"(v) : "memory"); }
DR(0) DR(1) DR(2) DR(3) DR(6) DR(7)
#undef DR
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 16, CR0_NE = 32, CR0_WP = 1 << 16, CR0_AM = 1 << 18,
       CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
#define CR0_PG 0x80000000u
enum { CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PGE = 128, CR4_PCE = 256, CR4_OSFXSR = 512, CR4_OSXMMEXCPT = 1024 };
static inline void invlpg(u32 a) { asm volatile("invlpg (%0)" : : "r"(a) : "memory"); }
static inline u32 read_flags(void) { u32 v; asm volatile("pushf; pop %0" : "=r"(v) : : "memory"); return v; }
static inline void write_flags(u32 v) { asm volatile("push %0; popf" : : "r"(v) : "memory", "cc"); }
static inline void cli(void) { asm volatile("cli" : : : "memory"); }
static inline void sti(void) { asm volatile("sti" : : : "memory"); }
static inline u64 rdmsr(u32 n) { u64 v; asm volatile("rdmsr" : "=A"(v) : "c"(n)); return v; }
static inline void wrmsr(u32 n, u64 v) { asm volatile("wrmsr" : : "A"(v), "c"(n) : "memory"); }
static inline u64 rdtsc(void) { u64 v; asm volatile("rdtsc" : "=A"(v)); return v; }

/* ---- paging ---------------------------------------------------------------------------------------- */

enum { PG_P = 1, PG_W = 2, PG_U = 4, PG_A = 0x20, PG_D = 0x40, PG_PS = 0x80, PG_G = 0x100 };
/* A zeroed page of physical memory above the image. */
void *page(void);
/* A fresh page directory that maps the first `mib` MiB (multiple of 4) one to one with 4 KiB pages and the given flags. */
u32 *identity_map(u32 mib, u32 flags);
/* The entry of `va`; makes a page table if there is none (flags P, W, U). */
u32 *pte(u32 *pd, u32 va);
/* Turn paging on (CR0.PG, and CR0.WP as asked). */
void paging_on(u32 *pd, u32 cr0_bits);

#endif
