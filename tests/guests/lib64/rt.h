/* The 64-bit micro-guests' runtime. One image = this library + one guest file of x64/.
 *
 * The image lies at 1 MiB of physical memory. The guest's kernel runs in long mode from KBASE up, where the first 64 MiB of memory are
 * mapped for ring 0 only, as kernels do it; the same 64 MiB are mapped one to one as well, and there the pages of the sections
 * .guest (code) and .user (data) belong to ring 3. low() leads from the first to the second.
 * As in rt.h, a guest prints only what the architecture defines and what it set up itself. */
#ifndef RT64_H
#define RT64_H

#include "../lib/base.h"

/* ---- addresses ------------------------------------------------------------------------------------ */

#define KBASE 0xffffffff80000000ul
/* Where ring 3 finds what the kernel has at p; also its physical address. */
static inline u64 low(const void *p) { return (u64)p - KBASE; }
/* Where the kernel finds a physical address. */
static inline void *virt(u64 phys) { return (void *)(phys + KBASE); }
/* Data that ring 3 may read and write, at low(&it). */
#define USER __attribute__((section(".user")))

/* ---- descriptor tables ---------------------------------------------------------------------------- */

/* In the order that SYSCALL and SYSRET want. */
enum {
	SEL_KCODE = 0x08, SEL_KDATA = 0x10, SEL_UCODE32 = 0x1b, SEL_UDATA = 0x23, SEL_UCODE = 0x2b,
	SEL_TSS = 0x30, SEL_LDT = 0x40, /* 16 bytes each */
	SEL_KCODE32 = 0x50,
	SEL_FREE = 0x58, /* first selector for the guest's own descriptors */
	GDT_ENTRIES = 64,
	VEC_DONE = 0x30, /* ring 3's way out of try3() and try32() */
};

struct __attribute__((packed)) dtr { u16 limit; u64 base; };
struct __attribute__((packed)) tss { u32 reserved0; u64 rsp[3], reserved1, ist[7], reserved2; u16 reserved3, iomap; };
struct gate { u64 lo, hi; };

extern u64 gdt[GDT_ENTRIES], ldt[16];
extern struct gate idt[256];
/* The TSS with an I/O permission bitmap for ports 0..0xFFF behind it (all ones: denied). IST n is ist_stack(n), loaded from the start. */
extern struct tss *const tss;
extern u8 *const io_bitmap;
enum { TSS_LIMIT_NO_BITMAP = 103, TSS_LIMIT_BITMAP = 104 + 512 };
enum { IST_SIZE = 4096 };
/* The top of the stack that IST 1..7 leads to. */
u64 ist_stack(int n);

/* Descriptor from base, limit in bytes - 1 or pages - 1 (flags & G), access byte and flags (high nibble: G D L AVL). */
u64 descriptor(u32 base, u32 limit, u8 access, u8 flags);
enum { FLAG_G = 8, FLAG_D = 4, FLAG_L = 2, FLAG_AVL = 1 };
enum { ACC_P = 0x80, ACC_DPL3 = 0x60, ACC_S = 0x10, ACC_CODE = 0x0a, ACC_DATA = 0x02, ACC_A = 1 };
/* A system descriptor of 16 bytes (TSS, LDT) in two entries. */
void system_descriptor(u64 *at, u64 base, u32 limit, u8 access);
struct gate gate(u16 sel, u64 entry, u8 access, int ist);
enum { GATE_INT = 0x8e, GATE_TRAP = 0x8f, GATE_CALL = 0x8c, GATE_DPL3 = 0x60 };
void set_gate(int vector, const void *entry, u8 access, int ist);
/* The runtime's own entry stub of a vector. */
const void *stub(int vector);
void load_gdt(void);
void load_idt(void);
void load_tss(u16 limit);

/* ---- events ---------------------------------------------------------------------------------------- */

struct regs { u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rflags; };
struct frame {
	u64 rax, rcx, rdx, rbx, rsp_dummy, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};
typedef void handler(struct frame *f);
/* Called instead of the default for this vector; it returns to the interrupted code. 0 restores the default. */
void on(int vector, handler *h);
/* "#GP" etc. */
const char *vector_name(u64 vector);

/* ---- trying a piece of code ------------------------------------------------------------------------ */

struct try {
	struct regs r;     /* in and out */
	u64 vector;        /* -1: none (try0) or VEC_DONE (try3): the code came to its end */
	u64 error, rip, cs, ss, cr2;
	u64 frame;         /* the address of the frame's end (above SS) */
	const char *code;
};
/* Ring 0, 64 bits; the code is where it was linked, above KBASE. */
int try0(struct try *t, const void *code);
/* Ring 3, 64 bits; the code is run at its low address, and the stack must be a low address. */
int try3(struct try *t, const void *code);
/* Ring 3, compatibility mode, likewise. */
int try32(struct try *t, const void *code);
/* Ring 3 with these selectors at this very address. */
int try_at(struct try *t, u64 rip, u16 cs, u16 ss);
/* Fresh registers: recognisable values, ring 3's stack, RFLAGS with IF off. */
void fresh(struct try *t);
/* fresh() + try + report(). Returns what the try returns. */
int go0(const char *name, const void *code, struct try *t);
int go3(const char *name, const void *code, struct try *t);
int go32(const char *name, const void *code, struct try *t);
/* Print "name: done" or "name: #GP 0000 at +0", with CR2 for #PF. */
void report(const char *name, const struct try *t);

/* The same code in both rings. */
#define BOTH(c) (go0(#c " ring 0", c, 0), go3(#c " ring 3", c, 0))

/* A piece of code for the above, on pages of its own. `end` of each is a global label name_end. */
#define CODE(name, text) \
	extern char name[], name##_end[]; \
	asm(".pushsection .guest,\"ax\"\n.globl " #name "\n.globl " #name "_end\n" #name ":\n" text "\nret\n" #name "_end:\n.popsection")
/* One for compatibility mode. A symbol's address is there `sym - KBASE`. */
#define CODE32(name, text) \
	extern char name[], name##_end[]; \
	asm(".set KBASE, 0xffffffff80000000\n.pushsection .guest,\"ax\"\n.code32\n.globl " #name "\n.globl " #name "_end\n" #name ":\n" text \
	    "\nret\n" #name "_end:\n.code64\n.popsection")

extern char user_stack_top[];

/* RFLAGS bits. */
enum {
	F_CF = 1, F_PF = 4, F_AF = 16, F_ZF = 64, F_SF = 128, F_TF = 0x100, F_IF = 0x200, F_DF = 0x400, F_OF = 0x800,
	F_IOPL = 0x3000, F_NT = 0x4000, F_RF = 0x10000, F_VM = 0x20000, F_AC = 0x40000, F_ID = 0x200000,
	F_ARITH = F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF,
	F_SYSTEM = F_TF | F_IF | F_DF | F_IOPL | F_NT | F_VM | F_AC,
};

/* ---- registers -------------------------------------------------------------------------------------- */

#define CR(n) \
	static inline u64 read_cr##n(void) { u64 v; asm volatile("mov %%cr" #n ",%0" : "=r"(v)); return v; } \
	static inline void write_cr##n(u64 v) { asm volatile("mov %0,%%cr" #n : : "r"(v) : "memory"); }
CR(0) CR(2) CR(3) CR(4) CR(8)
#undef CR
#define DR(n) \
	static inline u64 read_dr##n(void) { u64 v; asm volatile("mov %%dr" #n ",%0" : "=r"(v)); return v; } \
	static inline void write_dr##n(u64 v) { asm volatile("mov %0,%%dr" #n : : "r"(v) : "memory"); }
DR(0) DR(1) DR(2) DR(3) DR(6) DR(7)
#undef DR
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 16, CR0_NE = 32, CR0_WP = 1 << 16, CR0_AM = 1 << 18,
       CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
#define CR0_PG 0x80000000ul
enum { CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_PGE = 128, CR4_PCE = 256, CR4_OSFXSR = 512, CR4_OSXMMEXCPT = 1024,
       CR4_FSGSBASE = 0x10000 };
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
enum { EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800 };
static inline void invlpg(u64 a) { asm volatile("invlpg (%0)" : : "r"(a) : "memory"); }
static inline u64 read_flags(void) { u64 v; asm volatile("pushfq; pop %0" : "=r"(v) : : "memory"); return v; }
static inline void write_flags(u64 v) { asm volatile("push %0; popfq" : : "r"(v) : "memory", "cc"); }
static inline void cli(void) { asm volatile("cli" : : : "memory"); }
static inline void sti(void) { asm volatile("sti" : : : "memory"); }
static inline u64 rdmsr(u32 n) { u32 a, d; asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(n)); return a | (u64)d << 32; }
static inline void wrmsr(u32 n, u64 v) { asm volatile("wrmsr" : : "a"((u32)v), "d"((u32)(v >> 32)), "c"(n) : "memory"); }
static inline u64 rdtsc(void) { u32 a, d; asm volatile("rdtsc" : "=a"(a), "=d"(d)); return a | (u64)d << 32; }

/* ---- paging ------------------------------------------------------------------------------------------ */

enum { PG_P = 1, PG_W = 2, PG_U = 4, PG_PWT = 8, PG_PCD = 16, PG_A = 0x20, PG_D = 0x40, PG_PS = 0x80, PG_G = 0x100 };
#define PG_NX (1ul << 63)
#define PG_ADDRESS 0x000ffffffffff000ul
/* The tables that the runtime runs on: PML4, page directory of the first 64 MiB (in use twice: low and from KBASE), its table for the first 2 MiB. */
extern u64 boot_pml4[512], boot_pd[512], boot_pt[512];
/* A zeroed page of physical memory above the image, where the kernel sees it. */
void *page(void);
/* A fresh PML4 that shares the runtime's own two mappings. */
u64 *new_root(void);
/* The entry of `va` at a level: 1 page table, 2 directory, 3 PDPT, 4 PML4. Makes the tables that are missing above it (P, W, U). */
u64 *entry(u64 *root, u64 va, int level);
/* Map 4 KiB. */
void map(u64 *root, u64 va, u64 phys, u64 flags);
/* Load CR3. */
void use(u64 *root);

#endif
