// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel offers only as inline functions or macros, one function each, for the Rust side (rvmm-ko/sys, rvmm-ko/switch).
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <linux/cc_platform.h>
#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/fpu/api.h>

void rvmm_irq_disable(void);
void rvmm_irq_enable(void);
void *rvmm_gdt_rw(void);
void *rvmm_mm_top(struct mm_struct *mm);
void rvmm_flush_all_cpus(void);
int rvmm_must_return(void);
void rvmm_cond_resched(void);
int rvmm_host_unsuitable(void);
struct mm_struct *rvmm_current_mm(void);
void *rvmm_page_address(struct page *page);
unsigned long rvmm_page_to_pfn(struct page *page);
void rvmm_unpin(unsigned long pfn, bool dirty);
bool rvmm_can_read_nothing(void);
void rvmm_sigmask_enter(u64 mask);
void rvmm_sigmask_leave(void);

/* For the self-test: reads where nothing is, which the page fault handler puts right. */
bool rvmm_can_read_nothing(void)
{
	u8 byte;

	__get_kernel_nofault(&byte, (u8 *)-16L, u8, fault);
	return true;
fault:
	return false;
}

void rvmm_irq_disable(void)
{
	local_irq_disable();
}

void rvmm_irq_enable(void)
{
	local_irq_enable();
}

/* This CPU's GDT by its writable alias; preemption must be off. */
void *rvmm_gdt_rw(void)
{
	return get_current_gdt_rw();
}

/* The kernel's top-level page table of an address space. */
void *rvmm_mm_top(struct mm_struct *mm)
{
	return mm->pgd;
}

struct mm_struct *rvmm_current_mm(void)
{
	return current->mm;
}

void *rvmm_page_address(struct page *page)
{
	return page_address(page);
}

/* Toggling CR4.PGE drops every translation of this CPU, of all PCIDs and global ones too (SDM vol. 3 section 4.10.4.1). */
static void flush_this_cpu(void *unused)
{
	unsigned long cr4;

	asm volatile("mov %%cr4, %0" : "=r" (cr4));
	asm volatile("mov %0, %%cr4" : : "r" (cr4 ^ X86_CR4_PGE) : "memory");
	asm volatile("mov %0, %%cr4" : : "r" (cr4) : "memory");
}

/* May sleep: waits for every CPU. */
void rvmm_flush_all_cpus(void)
{
	on_each_cpu(flush_this_cpu, NULL, 1);
}

/* Must the current task go back to user space: a signal, or other work that only the way back does? */
int rvmm_must_return(void)
{
	return signal_pending(current) || test_thread_flag(TIF_NOTIFY_RESUME);
}

void rvmm_cond_resched(void)
{
	cond_resched();
}

/* 0: fit; 1: Xen PV; 2: FRED; 3: encrypted memory; 4: no NX. */
int rvmm_host_unsuitable(void)
{
	if (cpu_feature_enabled(X86_FEATURE_XENPV))
		return 1;
	if (cpu_feature_enabled(X86_FEATURE_FRED))
		return 2;
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT))
		return 3;
	if (!cpu_feature_enabled(X86_FEATURE_NX))
		return 4;
	return 0;
}

unsigned long rvmm_page_to_pfn(struct page *page)
{
	return page_to_pfn(page);
}

void rvmm_unpin(unsigned long pfn, bool dirty)
{
	struct page *page = pfn_to_page(pfn);

	unpin_user_pages_dirty_lock(&page, 1, dirty);
}

/* As KVM does it: the task's own mask waits in real_blocked, so that a pending signal is judged by the mask in force. */
void rvmm_sigmask_enter(u64 mask)
{
	sigset_t set;

	set.sig[0] = mask;
	sigdelsetmask(&set, sigmask(SIGKILL) | sigmask(SIGSTOP));
	sigprocmask(SIG_SETMASK, &set, &current->real_blocked);
}

void rvmm_sigmask_leave(void)
{
	sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
	sigemptyset(&current->real_blocked);
}
