/* Processes in ring 3: fork with copy on write, wait, exit, system calls by INT 80, round robin by the timer. */
#include "kernel.h"

enum { FREE, READY, DEAD, PROCESSES = 8 };

struct context { u32 edi, esi, ebx, ebp, eip; };
struct process {
	u32 state, pid, parent, status, preemptions;
	u32 *directory;
	u8 *stack;
	struct context *context;
};

static struct process processes[PROCESSES], *current;
static struct context *scheduler;
static u32 last_pid;
extern u8 user_image[], user_image_end[], trap_return[];
void switch_context(struct context **save, struct context *to);

/* A process that returns to user mode with what the frame at its stack's top says. */
static struct process *process_new(u32 *directory, const struct frame *frame)
{
	for (struct process *p = processes; p < processes + PROCESSES; p++) {
		if (p->state != FREE)
			continue;
		p->stack = high(page_new());
		/* Without the segments of virtual-8086 mode. */
		struct frame *f = (void *)(p->stack + PAGE - __builtin_offsetof(struct frame, v_es));
		memcpy(f, frame, __builtin_offsetof(struct frame, v_es));
		p->context = (struct context *)f - 1;
		p->context->eip = (u32)trap_return;
		p->directory = directory;
		p->pid = ++last_pid;
		p->preemptions = 0;
		p->state = READY;
		return p;
	}
	return 0;
}

static void yield(void)
{
	switch_context(&current->context, scheduler);
}

void process_tick(struct frame *f)
{
	if (!current || (f->cs & 3) != 3)
		return;
	current->preemptions++;
	yield();
}

static void leave(u32 status)
{
	asm volatile("cli");
	current->status = status;
	current->state = DEAD;
	yield();
}

/* A fault of a program ends it; its status says which. */
int user_fault(struct frame *f)
{
	if (!current)
		return 0;
	leave(0x10000 | f->vector << 8 | (f->error & 0xff));
	return 1;
}

static u32 fork(struct frame *f)
{
	struct process *child = process_new(directory_copy(current->directory), f);

	child->parent = current->pid;
	struct frame *theirs = (void *)(child->stack + PAGE - __builtin_offsetof(struct frame, v_es));
	theirs->eax = 0;
	return child->pid;
}

static u32 wait(u32 pid)
{
	for (struct process *p = processes; p < processes + PROCESSES; p++) {
		if (p->state == FREE || p->pid != pid || p->parent != current->pid)
			continue;
		while (p->state != DEAD)
			yield();
		directory_free(p->directory);
		page_free(low(p->stack));
		p->state = FREE;
		return p->status;
	}
	return -1;
}

/* Number in EAX; EBX, ECX and EDX. The gate leaves interrupts on; the process tables are touched with them off. */
static void system_call(struct frame *f)
{
	asm volatile("cli");
	switch (f->eax) {
	case 1:
		leave(f->ebx & 0xff);
		break;
	case 2:
		for (u32 i = 0; i < f->ecx; i++)
			put(((char *)f->ebx)[i]);
		break;
	case 3:
		f->eax = current->pid;
		break;
	case 4:
		f->eax = fork(f);
		break;
	case 5:
		f->eax = wait(f->ebx);
		break;
	case 6:
		yield();
		break;
	case 7:
		f->eax = current->preemptions;
		break;
	case 8:
		want((char *)f->ebx, f->ecx, f->edx);
		break;
	case 9:
		/* Where the frame lies: at the top of the stack that the TSS names. */
		f->eax = (u32)f + __builtin_offsetof(struct frame, v_es) == tss.esp0;
		break;
	case 10:
		test((char *)f->ebx);
		break;
	default:
		f->eax = -1;
	}
}

static void run(void)
{
	for (u32 alive = 1; alive;) {
		alive = 0;
		for (struct process *p = processes; p < processes + PROCESSES; p++) {
			if (p->state != READY)
				continue;
			alive = 1;
			current = p;
			tss.esp0 = (u32)p->stack + PAGE;
			write_cr3(low(p->directory));
			switch_context(&scheduler, p->context);
			write_cr3(low(kernel_directory));
			current = 0;
		}
	}
}

void test_users(void)
{
	struct frame f = { .ds = UDATA, .es = UDATA, .fs = UDATA, .gs = UDATA, .eip = USER_CODE, .cs = UCODE, .eflags = INTERRUPTS | 2, .esp = USER_STACK, .ss = UDATA };
	u32 before = pages_free(), saved = tss.esp0;

	test("users");
	handlers[SYSCALL] = system_call;
	u32 *directory = high(page_new());
	memcpy(directory, kernel_directory, PAGE);
	for (u32 at = 0; at < (u32)(user_image_end - user_image); at += PAGE) {
		u32 page = page_new();
		*page_entry(directory, USER_CODE + at, 1) = page | PRESENT | WRITE | USER;
		memcpy(high(page), user_image + at, user_image_end - user_image - at < PAGE ? (u32)(user_image_end - user_image) - at : PAGE);
	}
	struct process *first = process_new(directory, &f);
	pic_mask(0xfffe);
	run();
	asm volatile("cli");
	pic_mask(0xffff);
	tss.esp0 = saved;
	want("status of the first", first->status, 42);
	directory_free(first->directory);
	page_free(low(first->stack));
	first->state = FREE;
	test("users-memory");
	want("pages lost", before - pages_free(), 0);
	handlers[SYSCALL] = 0;
}
