/* What both runtimes have, of 32 and of 64 bits: output, ports, interrupt controller and timer, bytes. */
#ifndef BASE_H
#define BASE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
#ifdef __x86_64__
typedef unsigned long u64; /* %lx prints it */
#else
typedef unsigned long long u64;
#endif

/* ---- output and end ---------------------------------------------------------------------------- */

/* printf subset: %s %c %d %u %x %0Nx %%, and %lu %lx for a register of the guest */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Print "name: verdict" and count failures; finish() turns them into a status. */
void check(const char *name, int good);
/* Print "[exit status]" and leave the machine through port 0x501. */
void finish(u32 status) __attribute__((noreturn));

/* ---- ports -------------------------------------------------------------------------------------- */

static inline void outb(u16 port, u8 v) { asm volatile("outb %0,%1" : : "a"(v), "Nd"(port) : "memory"); }
static inline void outw(u16 port, u16 v) { asm volatile("outw %0,%1" : : "a"(v), "Nd"(port) : "memory"); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0,%1" : : "a"(v), "Nd"(port) : "memory"); }
static inline u8 inb(u16 port) { u8 v; asm volatile("inb %1,%0" : "=a"(v) : "Nd"(port) : "memory"); return v; }

/* ---- interrupt controller and timer --------------------------------------------------------------- */

enum { IRQ_BASE = 0x20 };
/* Remap the 8259s to vectors 0x20..0x2F, everything masked. */
void pic_init(void);
void pic_unmask(int irq);
void pic_mask(int irq);
void pic_eoi(int irq);
/* PIT channel 0: periodic, `hz` interrupts a second; 0 stops it (one-shot mode never started). */
void pit_start(u32 hz);
void pit_stop(void);

/* ---- bytes ------------------------------------------------------------------------------------------ */

void *memcpy(void *d, const void *s, unsigned long n);
void *memset(void *d, int c, unsigned long n);
int memcmp(const void *a, const void *b, unsigned long n);

#endif
