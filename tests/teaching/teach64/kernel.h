/* The 64-bit teaching system: what its parts know of each other. */
#pragma once
#include "../lib/console.h"

#define BASE 0xffffffff80000000ul
#define DIRECT 0xffff800000000000ul

enum {
	PAGE = 4096, KCODE = 0x08, KDATA = 0x10, UCODE32 = 0x1b, UDATA = 0x23, UCODE = 0x2b, TSS = 0x30,
	PRESENT = 1, WRITE = 2, USER = 4, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80,
	TIMER = 0x40, KEYBOARD = 0x41, DISK = 0x42, PIT = 0x43, SELF = 0x50, SPURIOUS = 0xff,
};
#define NX (1ul << 63)

struct frame { u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, vector, error, rip, cs, rflags, rsp, ss; };

static inline u64 rdmsr(u32 n) { u32 a, d; asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(n)); return a | (u64)d << 32; }
static inline void wrmsr(u32 n, u64 v) { asm volatile("wrmsr" : : "a"((u32)v), "d"((u32)(v >> 32)), "c"(n)); }
static inline u64 read_cr2(void) { u64 v; asm volatile("mov %%cr2, %0" : "=r"(v)); return v; }
static inline u64 read_cr3(void) { u64 v; asm volatile("mov %%cr3, %0" : "=r"(v)); return v; }
static inline void invlpg(u64 a) { asm volatile("invlpg (%0)" : : "r"(a) : "memory"); }
static inline u64 physical(const void *p) { return (u64)p - BASE; }
static inline void *direct(u64 p) { return (void *)(DIRECT + p); }

/* cpu.c */
typedef void handler(struct frame *);
extern handler *handlers[256];
extern struct frame caught;
extern u64 resume_at;
extern u8 ist_stacks[3][2048];
void cpu_init(void);
void idt_ist(u32 vector, u32 ist);

/* TRY: the vector of the exception that CODE leads to, or -1; "caught" has its frame. A and C are RAX and RCX. */
#define TRY3(code, a, c) ({ \
	u64 a_ = (u64)(a), c_ = (u64)(c); \
	caught.vector = ~0u; \
	asm volatile("movq $77f, %0\n\t" code "\n77:" : "=m"(resume_at), "+a"(a_), "+c"(c_) : : "rdx", "memory", "cc"); \
	resume_at = 0; \
	(u32)caught.vector; })
#define TRY(code) TRY3(code, 0, 0)

/* memory.c */
u64 page_new(void);
u64 *page_entry(u64 address, int make);
void page_map(u64 address, u64 entry);

/* acpi.c */
struct machine { u32 lapic, ioapic, cpus, timer_pin, hpet, mp_cpus, pm1a, sleep_type; };
extern struct machine machine;
void test_tables(void);
__attribute__((noreturn)) void power_off(void);

/* apic.c */
extern volatile u32 ticks, pit_ticks, keys, self_count, disk_irqs;
void lapic_write(u32 reg, u32 v);
u32 lapic_read(u32 reg);
void ioapic_route(u32 pin, u32 entry);
void lapic_timer(u32 count, int periodic);
void test_apic(void), test_ioapic(void);

void test_cpu(void), test_memory(void), test_pci(void), test_dma(void), test_users(void), test_self_modifying(void);
int user_fault(struct frame *f);
