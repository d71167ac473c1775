/* The 32-bit teaching system: what its parts know of each other. */
#pragma once
#include "../lib/console.h"

enum {
	BASE = 0xc0000000u,
	PAGE = 4096,
	/* Selectors. */
	KCODE = 0x08, KDATA = 0x10, UCODE = 0x1b, UDATA = 0x23, TSS_MAIN = 0x28, TSS_A = 0x30, TSS_B = 0x38, TSS_DF = 0x40,
	SPARE = 0x48, SPARES = 8,
	/* Page table bits; OURS is the one this system keeps "copy on write" in. */
	PRESENT = 1, WRITE = 2, USER = 4, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80, OURS = 0x200,
	IRQ = 0x20, SYSCALL = 0x80,
	INTERRUPTS = 0x200, NESTED = 0x4000, VM = 0x20000,
};

static inline void *high(u32 physical) { return (void *)(physical + BASE); }
static inline u32 low(const void *virtual) { return (u32)virtual - BASE; }

/* What a trap leaves on the stack; the last ones only from outer rings and from virtual-8086 mode. */
struct frame {
	u32 gs, fs, es, ds, edi, esi, ebp, unused, ebx, edx, ecx, eax, vector, error, eip, cs, eflags;
	u32 esp, ss, v_es, v_ds, v_fs, v_gs;
};

struct tss {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, iomap;
};

/* gdt.c: FLAGS is the access byte, with G, D/B, L and AVL in bits 11:8. */
extern u64 gdt[];
extern struct tss tss;
void gdt_init(void);
u64 descriptor(u32 base, u32 limit, u32 flags);
void gdt_set(u32 selector, u32 base, u32 limit, u32 flags);

/* trap.c */
typedef void handler(struct frame *);
extern handler *handlers[256];
extern struct frame caught;
extern u32 resume_at;
void idt_init(void);
void idt_gate(u32 vector, u32 selector, u32 offset, u32 type);
void panic(const char *why, struct frame *);

/* TRY: the vector of the exception that CODE leads to, or -1; "caught" has its frame. A and C are EAX and ECX. */
#define TRY3(code, a, c) ({ \
	u32 a_ = (u32)(a), c_ = (u32)(c); \
	caught.vector = ~0u; \
	asm volatile("movl $77f, %0\n\t" code "\n77:" : "=m"(resume_at), "+a"(a_), "+c"(c_) : : "edx", "memory", "cc"); \
	resume_at = 0; \
	caught.vector; })
#define TRY(code) TRY3(code, 0, 0)

/* pic.c */
extern volatile u32 ticks, irqs[16];
void pic_init(void);
void pic_mask(u16 mask);
void pit_divisor(u32 divisor);

/* paging.c */
extern u32 *kernel_directory;
void paging_init(void);
u32 page_new(void);
void page_free(u32 physical);
void page_share(u32 physical);
u32 page_users(u32 physical);
u32 pages_free(void);
u32 *page_entry(u32 *directory, u32 address, int make);
int page_fault(u32 *directory, u32 address, u32 error);
u32 *directory_copy(u32 *from);
void directory_free(u32 *directory);
static inline void invlpg(u32 address) { asm volatile("invlpg (%0)" : : "r"(address) : "memory"); }
static inline u32 read_cr2(void) { u32 v; asm volatile("mov %%cr2, %0" : "=r"(v)); return v; }
static inline u32 read_cr3(void) { u32 v; asm volatile("mov %%cr3, %0" : "=r"(v)); return v; }
static inline void write_cr3(u32 v) { asm volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }

/* process.c */
void test_users(void);
int user_fault(struct frame *);
void process_tick(struct frame *);

/* user memory */
enum { USER_CODE = 0x08048000, USER_HEAP = 0x10000000, USER_HEAP_END = 0x10100000, USER_STACK = 0x20000000 };

void test_segments(void), test_traps(void), test_timer(void), test_disks(void), test_keyboard(void), test_paging(void), test_tasks(void);
void test_v86(void), test_stacks(void), test_storm(void), test_self_modifying(void), test_locks(void);
