/* The 16-bit teaching system: what its parts know of each other. All of it is in one segment, at SEGMENT:0; far memory is reached through FS. */
#pragma once
#include "../lib/console.h"

enum { SEGMENT = 0x1231 };

struct registers { u32 eax, ebx, ecx, edx, esi, edi, es, flags; };

/* INT NUMBER with these registers, and with what comes out of it. */
void interrupt(u8 number, struct registers *r);

static inline u16 far_word(u16 segment, u16 offset)
{
	u16 v;
	asm volatile("mov %w1, %%fs; movw %%fs:(%2), %0" : "=r"(v) : "r"((u32)segment), "r"((u32)offset));
	return v;
}
static inline void far_word_set(u16 segment, u16 offset, u16 v)
{
	asm volatile("mov %w1, %%fs; movw %0, %%fs:(%2)" : : "r"(v), "r"((u32)segment), "r"((u32)offset) : "memory");
}
/* The interrupt vector table. */
static inline u32 vector(u8 n) { return far_word(0, n * 4) | far_word(0, n * 4 + 2) << 16; }
static inline void vector_set(u8 n, u32 far)
{
	asm volatile("cli");
	far_word_set(0, n * 4, far);
	far_word_set(0, n * 4 + 2, far >> 16);
	asm volatile("sti");
}
static inline u32 here(const void *p) { return (u32)SEGMENT << 16 | (u16)(u32)p; }

void test_bios(void), test_own_interrupts(void), test_timer(void), test_keyboard(void), test_a20(void), test_modes(void), test_real_mode(void);
