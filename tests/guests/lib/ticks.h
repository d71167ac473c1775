/* Interrupts and NMIs that come while programs and their kernel enter and leave each other, at any instruction: they find IF set. Behind rt.h. */
#pragma once

#ifdef __x86_64__
#define FRAME_FLAGS rflags
static volatile u64 bad, ticks, nmis;
#else
#define FRAME_FLAGS eflags
static volatile u32 bad, ticks, nmis;
#endif

static void tick(struct frame *f)
{
	ticks++;
	if (!(f->FRAME_FLAGS & F_IF))
		bad++;
	pic_eoi(0);
}

static void nmi(struct frame *f)
{
	(void)f;
	nmis++;
}
