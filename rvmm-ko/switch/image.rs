// SPDX-License-Identifier: GPL-2.0
//! Tour 9/22, next: `rvmm-ko/core/src/exits.rs`.
//! The switcher: the only code that runs in the guest world at ring 0.
//!
//! The image lies in `.rodata`, is copied to pages of its own and runs only at the VMM area's linear address, where it finds its
//! data at fixed distances. It refers to nothing outside the area except through values in the control page.
//!
//! Prototype: `extern "C" fn()`, called with interrupts off, on the current task's page tables with the VMM slot in them. All
//! registers of the C ABI are preserved; CR0, CR3, CR4, GDTR, IDTR, TR, LDTR, DS, ES, FS, GS and the FS and GS bases are those of
//! [`super::layout::Control`] afterwards. Not saved here: FPU, PKRU, debug registers, EFER, SYSENTER_CS (the caller's).
//!
//! In:  1. callee-saved registers and flags on the host stack, its RSP to the control page
//!      2. IDT A: its gates go through selector 0x10, which the host's GDT has        (host TSS: same IST numbers)
//!      3. transition GDT: has 0x10 and the VMM's own descriptors                     (either IDT works now)
//!      4. IDT B, whose gates go through the VMM's code segment; TR; shadow GDT; VMM stack
//!      5. LDTR, data segments (and, if asked, their descriptors not present any more), bases of FS and GS, CR0, CR4, guest CR3
//!      6. NMI or #MC pending? then out again; else general-purpose registers and IRETQ
//! Out: 1. CPU and stub push the frame in place, registers below it; CR2, selectors, bases to the control page; flags cleared
//!      2. host CR3, CR4, CR0; transition GDT; IDT A; far return to 0x10
//!      3. host GDT by its writable alias, busy bit, TR; host GDT; LDTR, data segments, FS and GS bases
//!      4. host stack; host IDT, last; flags, registers, return
//!
//! At no instruction is an IDT live whose gates' code segment is missing in the live GDT, nor the host's IDT together with anything
//! of ours. NMI, #MC and #DB at ring 0 set a flag and resume without IRETQ (which would unblock NMIs), except between step 6 and
//! IRETQ, where an NMI or #MC leaves at once. Any other exception at ring 0 is a fault of the entry (bad selector, bad descriptor):
//! it is recorded and the exit path runs; everything that path loads is absolute, so it works from any step.
//!
//! Nothing here reads or writes through FS or GS, so the stubs need no SWAPGS, whatever base the guest has given GS; bases are loaded
//! and stored by their MSRs, as RDGSBASE and the like depend on a CR4 that is the guest's in the middle of it. The stack is always a
//! stack of the area's, by the TSS, so the guest's RSP may be anything, canonical or not.
//! SDM vol. 3 §6.14 (64-bit interrupts, IST), §5.8 (returns), §8.7 (TSS); APM vol. 2 §8.9.

use super::layout::{
    Control, Frame, CONTROL_PAGE, GDT_PAGE, HOST_CS, HOST_SS, LDT_PAGE, PAGE, TSS_PAGE, VCPU_PAGE, VMM_TSS,
};
use core::arch::global_asm;
use core::mem::{offset_of, size_of};
use rvmm_arch::host::{BlockCall, BlockEvent, EventLoan, EventSlot, BLOCK_CALL, BLOCK_EVENT, VCPU_CR2, VCPU_WORDS};

global_asm!(
    r#"
    .pushsection .rodata.rvmm_image, "a", @progbits
    .balign 64
    .globl rvmm_image_start
rvmm_image_start:
.Lrvmm_image:
    .set .Lctl, .Lrvmm_image + {control}
    .set .Lvcpu, .Lrvmm_image + {vcpu_page}
    .set .Lguest_tss, .Lrvmm_image + {tss_page}

    endbr64
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    movq %rsp, .Lctl+{host_rsp}(%rip)

    lidt .Lctl+{idtr_a}(%rip)
    lgdt .Lctl+{gdtr_transition}(%rip)
    lidt .Lctl+{idtr_b}(%rip)
    movl ${vmm_tss}, %eax
    ltr %ax
    lgdt .Lctl+{gdtr_shadow}(%rip)
    leaq .Lctl+{frame}(%rip), %rsp

.Lload_ldt:
    lldt .Lctl+{guest_ldt}(%rip)
.Lload_es:
    movw .Lctl+{guest_es}(%rip), %es
.Lload_ds:
    movw .Lctl+{guest_ds}(%rip), %ds
.Lload_fs:
    movw .Lctl+{guest_fs}(%rip), %fs
.Lload_gs:
    movw .Lctl+{guest_gs}(%rip), %gs
.Lloads_end:

    /* Selectors whose descriptors in the guest's table differ from what the registers hold: what was just loaded stays in
       the hidden parts, but a load by the guest must trap. */
    movzwl .Lctl+{disarm}(%rip), %ecx
    testl %ecx, %ecx
    je 1f
    .irp selector, {guest_es}, {guest_ds}, {guest_fs}, {guest_gs}
    shrl $1, %ecx
    jnc 3f
    movzwl .Lctl+\selector(%rip), %eax
    leaq .Lrvmm_image+{gdt}(%rip), %rbx
    testb $4, %al
    jz 2f
    leaq .Lrvmm_image+{ldt}(%rip), %rbx
2:  andl $0xfff8, %eax
    andb $0x7f, 5(%rbx,%rax)
3:
    .endr
1:
    /* A guest in long mode has bases that no descriptor holds. */
    cmpb $0, .Lctl+{long_mode}(%rip)
    je 1f
    movl $0xc0000100, %ecx
    movl .Lctl+{guest_fs_base}(%rip), %eax
    movl .Lctl+{guest_fs_base}+4(%rip), %edx
    wrmsr
    movl $0xc0000101, %ecx
    movl .Lctl+{guest_gs_base}(%rip), %eax
    movl .Lctl+{guest_gs_base}+4(%rip), %edx
    wrmsr
1:
    movq .Lctl+{guest_cr0}(%rip), %rax
    cmpq .Lctl+{host_cr0}(%rip), %rax
    je 1f
    movq %rax, %cr0
1:  movq .Lctl+{guest_cr4}(%rip), %rax
    cmpq .Lctl+{host_cr4}(%rip), %rax
    je 1f
    movq %rax, %cr4
1:  movq .Lctl+{guest_cr3}(%rip), %rax
    movq %rax, %cr3

.Lcheck:
    cmpl $0, .Lctl+{pending}(%rip)
    jne .Lpending
    popq %rax
    popq %rcx
    popq %rdx
    popq %rbx
    addq $8, %rsp
    popq %rbp
    popq %rsi
    popq %rdi
    popq %r8
    popq %r9
    popq %r10
    popq %r11
    popq %r12
    popq %r13
    popq %r14
    popq %r15
    addq $16, %rsp
.Liret:
    iretq
.Liret_end:

    /* On an interrupt stack: move the frame to where the others have theirs. */
    .balign 16
.Lexit_ist:
    testb $3, 24(%rsp)
    jz .Lring0
    pushq %rax
    .set .Lword, 0
    .rept 7
    movq 8+8*.Lword(%rsp), %rax
    movq %rax, .Lctl+{frame_vector}+8*.Lword(%rip)
    .set .Lword, .Lword + 1
    .endr
    popq %rax
    leaq .Lctl+{frame_vector}(%rip), %rsp

.Lexit:
    testb $3, 24(%rsp)
    jz .Lring0
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdi
    pushq %rsi
    pushq %rbp
    pushq $0
    pushq %rbx
    pushq %rdx
    pushq %rcx
    pushq %rax
    /* AC, DF, NT, TF of the guest go. */
    pushq $2
    popfq
    movq %cr2, %rax
    movq %rax, .Lctl+{cr2}(%rip)
    cmpb $0, .Lctl+{may_reflect}(%rip)
    jne .Levent
.Lsegments:
    movw %es, .Lctl+{guest_es}(%rip)
    movw %ds, .Lctl+{guest_ds}(%rip)
    movw %fs, .Lctl+{guest_fs}(%rip)
    movw %gs, .Lctl+{guest_gs}(%rip)
    /* It changes them without an exit: by WRFSBASE and WRGSBASE, or by loading a selector. */
    cmpb $0, .Lctl+{long_mode}(%rip)
    je .Lout
    movl $0xc0000100, %ecx
    rdmsr
    movl %eax, .Lctl+{guest_fs_base}(%rip)
    movl %edx, .Lctl+{guest_fs_base}+4(%rip)
    movl $0xc0000101, %ecx
    rdmsr
    movl %eax, .Lctl+{guest_gs_base}(%rip)
    movl %edx, .Lctl+{guest_gs_base}+4(%rip)

.Lout:
    movb $1, .Lctl+{exiting}(%rip)
    movq .Lctl+{host_cr3}(%rip), %rax
    movq %rax, %cr3
    movq .Lctl+{host_cr4}(%rip), %rax
    cmpq .Lctl+{guest_cr4}(%rip), %rax
    je 1f
    movq %rax, %cr4
1:  movq .Lctl+{host_cr0}(%rip), %rax
    cmpq .Lctl+{guest_cr0}(%rip), %rax
    je 1f
    movq %rax, %cr0
1:
    lgdt .Lctl+{gdtr_transition}(%rip)
    lidt .Lctl+{idtr_a}(%rip)
    pushq ${host_cs}
    leaq 1f(%rip), %rax
    pushq %rax
    lretq
1:
    lgdt .Lctl+{host_gdtr_writable}(%rip)
    movq .Lctl+{host_tss_descriptor}(%rip), %rax
    andb $0xfd, 5(%rax)
    ltr .Lctl+{host_tr}(%rip)
    lgdt .Lctl+{host_gdtr}(%rip)
    lldt .Lctl+{host_ldt}(%rip)
    movw .Lctl+{host_es}(%rip), %es
    movw .Lctl+{host_ds}(%rip), %ds
    movw .Lctl+{host_fs}(%rip), %fs
    movw .Lctl+{host_gs}(%rip), %gs
    movl ${host_ss}, %eax
    movl %eax, %ss
    movl $0xc0000100, %ecx
    movl .Lctl+{host_fs_base}(%rip), %eax
    movl .Lctl+{host_fs_base}+4(%rip), %edx
    wrmsr
    movl $0xc0000101, %ecx
    movl .Lctl+{host_gs_base}(%rip), %eax
    movl .Lctl+{host_gs_base}+4(%rip), %edx
    wrmsr
    movq .Lctl+{host_rsp}(%rip), %rsp
    lidt .Lctl+{host_idtr}(%rip)
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
    int3

.Lpending:
    leaq .Lctl+{frame}(%rip), %rsp
    movq .Lctl+{turns}(%rip), %rax
    orq .Lctl+{returns}(%rip), %rax
    orq .Lctl+{events}+{taken}(%rip), %rax
    orq .Lctl+{events}+{slot}+{taken}(%rip), %rax
    jnz 1f
    movb $2, .Lctl+{aborted}(%rip)
    jmp .Lout
    /* Behind a turn the guest's context is not what it was, but the frame is complete, as pops change nothing: as if the event had
       come at the first instruction behind it. */
1:  movq $(2 - 128), .Lctl+{frame_vector}(%rip)
    cmpb $0, .Lctl+{pending_mc}(%rip)
    je .Lsegments
    movq $(18 - 128), .Lctl+{frame_vector}(%rip)
    jmp .Lsegments

    /* LSTAR and CSTAR. SYSCALL has put RIP to RCX and the flags to R11 and cleared IF, TF, DF, AC, NT, IOPL and RF; CS is 0x10 and SS 0x18,
       flat, by STAR; RSP is still the guest's, whatever that is. Until it is ours nothing may be pushed, and .Lring0 does not resume here. */
    .balign 16
.Lsyscall_compat:
    movb $1, .Lctl+{syscall_compat}(%rip)
.Lsyscall:
    movq %rsp, .Lctl+{frame_rsp}(%rip)
    leaq .Lctl+{frame_vector}(%rip), %rsp
.Lsyscall_stack:
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdi
    pushq %rsi
    pushq %rbp
    pushq $0
    pushq %rbx
    pushq %rdx
    pushq %rcx
    pushq %rax
    movq %rcx, .Lctl+{frame_rip}(%rip)
    movq %r11, .Lctl+{frame_rflags}(%rip)
    cmpb $0, .Lctl+{syscall_compat}(%rip)
    jne .Lsyscall_exit
    cmpb $0, .Lctl+{pending_db}(%rip)
    jne .Lsyscall_exit
    cmpb $0, .Lctl+{in_kernel}(%rip)
    jne .Lcall
    cmpb $0, .Lctl+{may_turn}(%rip)
    je .Lsyscall_exit
    testq %r11, .Lctl+{syscall_unusual}(%rip)
    jnz .Lsyscall_exit
    /* A null selector may have any RPL; the tail's IRETQ would take that away. */
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    decl %eax
    cmpl $3, %eax
    jb .Lsyscall_exit
    .endr

    /* The turn: frame, private descriptors, CR4, CR3 of the kernel. From the first change on nothing stops it: an NMI or machine check
       waits for the check behind it. */
    incq .Lctl+{turns}(%rip)
    movb $1, .Lctl+{in_kernel}(%rip)
    andq $~0x10000, .Lctl+{frame_r11}(%rip)
    andq .Lctl+{syscall_keep}(%rip), %r11
    orq $0x202, %r11
    movq %r11, .Lctl+{frame_rflags}(%rip)
    movq .Lctl+{syscall_rip}(%rip), %rax
    movq %rax, .Lctl+{frame_rip}(%rip)
    leaq .Lrvmm_image+{gdt}(%rip), %rbx
    movq .Lctl+{syscall_cs}(%rip), %rax
    movq %rax, .Lctl+{frame_cs}(%rip)
    andl $0xfff8, %eax
    movq .Lctl+{syscall_descriptors}(%rip), %rcx
    movq %rcx, (%rbx,%rax)
    movq .Lctl+{syscall_ss}(%rip), %rax
    movq %rax, .Lctl+{frame_ss}(%rip)
    andl $0xfff8, %eax
    movq .Lctl+{syscall_descriptors}+8(%rip), %rcx
    movq %rcx, (%rbx,%rax)
    /* The vCPU page as the kernel finds it. Before the first turn the engine has filled it in. */
    cmpb $0, .Lctl+{may_return}(%rip)
    je 1f
    .set .Lword, 0
    .rept {vcpu_words}
    movq .Lctl+{words}+8*.Lword(%rip), %rax
    movq %rax, .Lvcpu+8*.Lword(%rip)
    .set .Lword, .Lword + 1
    .endr
1:  movq .Lctl+{syscall_cr3}(%rip), %rcx
    movq .Lctl+{syscall_cr4}(%rip), %rax
.Lturn:
    cmpq .Lctl+{guest_cr4}(%rip), %rax
    je 1f
    movq %rax, .Lctl+{guest_cr4}(%rip)
    movq %rax, %cr4
1:  movq %rcx, %cr3
    jmp .Lcheck

    /* SYSCALL of the guest's kernel: a block's call, if it comes from where blocks are. What it says is the guest's to write: each word
       is read once, by the page's address in the area, and looked at before anything is changed. */
.Lcall:
    cmpb $0, .Lctl+{may_return}(%rip)
    je .Lsyscall_exit
    subq .Lctl+{blocks}(%rip), %rcx
    cmpq .Lctl+{blocks}+8(%rip), %rcx
    jae .Lsyscall_exit
    /* Data segments that an IRET leaves alone, as SYSRET does: null ones, and those that programs may have. */
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    testl %eax, %eax
    jz 1f
    cmpl .Lctl+{program_ss}(%rip), %eax
    jne .Lsyscall_exit
1:
    .endr
    movq .Lvcpu+{call_rip}(%rip), %rcx
    movq .Lvcpu+{call_rsp}(%rip), %rdx
    movq .Lvcpu+{call_rcx}(%rip), %rsi
    movq .Lvcpu+{call_r11}(%rip), %rdi
    movq .Lvcpu+{call_flags}(%rip), %r11
    movq .Lvcpu+{call_kind}(%rip), %r8
    /* To the lower half; with IF, and nothing else but status flags, DF, ID, and of an IRET RF. */
    movq %rcx, %rax
    shrq $47, %rax
    jnz .Lsyscall_exit
    testq $~0x210ed7, %r11
    jnz .Lsyscall_exit
    testl $0x200, %r11d
    jz .Lsyscall_exit
    cmpl $2, %r8d
    je 1f
    testl $0x10000, %r11d
    jnz .Lsyscall_exit
1:
    /* The turn back. From here on nothing stops it. */
    incq .Lctl+{returns}(%rip)
    movb $0, .Lctl+{in_kernel}(%rip)
    movq %rcx, .Lctl+{frame_rip}(%rip)
    movq %rdx, .Lctl+{frame_rsp}(%rip)
    movq %rsi, .Lctl+{frame_rcx}(%rip)
    movq %rdi, .Lctl+{frame_r11}(%rip)
    orq $2, %r11
    movq %r11, .Lctl+{frame_rflags}(%rip)
    movq .Lctl+{program_cs}(%rip), %rax
    movq %rax, .Lctl+{frame_cs}(%rip)
    movq .Lctl+{program_ss}(%rip), %rax
    movq %rax, .Lctl+{frame_ss}(%rip)
    /* A program must not load the kernel's. */
    leaq .Lrvmm_image+{gdt}(%rip), %rbx
    xorl %ecx, %ecx
    movq .Lctl+{syscall_cs}(%rip), %rax
    andl $0xfff8, %eax
    movq %rcx, (%rbx,%rax)
    movq .Lctl+{syscall_ss}(%rip), %rax
    andl $0xfff8, %eax
    movq %rcx, (%rbx,%rax)
    movq .Lctl+{program_cr3}(%rip), %rcx
    movq .Lctl+{program_cr4}(%rip), %rax
    jmp .Lturn

.Lsyscall_exit:
    movb $1, .Lctl+{syscall_exit}(%rip)
    movq $-128, .Lctl+{frame_vector}(%rip)
    movq $0, .Lctl+{frame_vector}+8(%rip)
    jmp .Lsegments

    /* An exception in the guest world, and events of programs are lent: is it one of these? Nothing is changed before that is certain. */
.Levent:
    cmpb $0, .Lctl+{in_kernel}(%rip)
    jne .Lsegments
    movl .Lctl+{frame_vector}(%rip), %eax
    movl .Lctl+{frame_vector}+8(%rip), %edx
    movq .Lctl+{frame_rip}(%rip), %rbp
    movq .Lctl+{frame_cs}(%rip), %rcx
    movq .Lctl+{frame_rflags}(%rip), %r10
    cmpl $(14 - 128), %eax
    je .Lpage_fault
    cmpl $(13 - 128), %eax
    jne .Lsegments
    cmpq .Lctl+{int_error}(%rip), %rdx
    jne .Lsegments
    /* INT n, by code whose RIP is its linear address; in its short form, which is 2 bytes long. The byte has just been fetched by this very
       address, in these page tables, which nobody changes meanwhile. */
    cmpq .Lctl+{program_cs}(%rip), %rcx
    je 1f
    cmpq .Lctl+{flat_code}(%rip), %rcx
    jne .Lsegments
    movq %rbp, %rax
    shrq $32, %rax
    jnz .Lsegments
1:  cmpb $0xcd, (%rbp)
    jne .Lsegments
    addq $2, %rbp
    andq $~0x10000, %r10
    movl ${by_interrupt}, %r9d
    leaq .Lctl+{events}+{interrupt}*{slot}(%rip), %r8
    jmp 2f
    /* A page fault at an entry that stands for one that the guest has not: RSVD, and U. P is clear in QEMU without KVM. Its error code is that
       of a page that is not present; RF is set in the frame of every fault. */
.Lpage_fault:
    movl %edx, %eax
    andl $~0x13, %eax
    cmpl $0xc, %eax
    jne .Lsegments
    andq .Lctl+{error_bits}(%rip), %rdx
    orq $0x10000, %r10
    movl ${by_page_fault}, %r9d
    leaq .Lctl+{events}+{page_fault}*{slot}(%rip), %r8
2:  cmpq $0, {block}(%r8)
    je .Lsegments
    /* The RIP of compatibility code has 32 bits, and the frame is to show no more. */
    cmpq .Lctl+{program_cs}(%rip), %rcx
    je 1f
    movq %rbp, %rax
    shrq $32, %rax
    jnz .Lsegments
    /* With TF, NT or AC it is the engine's; and so it is with a null selector that the tail's IRETQ would take the RPL of. */
1:  testl $0x44100, %r10d
    jnz .Lsegments
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    decl %eax
    cmpl $3, %eax
    jb .Lsegments
    .endr

    /* From here on nothing stops it. What the exit would have been is kept, as is CR2: the frame is not pushed yet. */
    incq {taken}(%r8)
    movb %r9b, .Lctl+{in_kernel}(%rip)
    .set .Lword, 0
    .rept 7
    movq .Lctl+{frame_vector}+8*.Lword(%rip), %rax
    movq %rax, .Lctl+{event_frame}+8*.Lword(%rip)
    .set .Lword, .Lword + 1
    .endr
    movq .Lctl+{event_cr2}(%rip), %rax
    movq %rax, .Lctl+{event_cr2_before}(%rip)
    cmpl ${by_page_fault}, %r9d
    jne 1f
    movq .Lctl+{cr2}(%rip), %rax
    movq %rax, .Lctl+{event_cr2}(%rip)
    movq %rax, .Lvcpu+{vcpu_cr2}(%rip)
    /* The vCPU page as the handler finds it, and the words of the frame. */
1:  .set .Lword, 0
    .rept {vcpu_words}
    movq {slot_words}+8*.Lword(%r8), %rax
    movq %rax, .Lvcpu+8*.Lword(%rip)
    .set .Lword, .Lword + 1
    .endr
    movq .Lctl+{frame_ss}(%rip), %rax
    movq %rax, .Lvcpu+{event_ss}(%rip)
    movq .Lctl+{frame_rsp}(%rip), %rax
    movq %rax, .Lvcpu+{event_rsp}(%rip)
    movq %r10, .Lvcpu+{event_flags}(%rip)
    movq %rcx, .Lvcpu+{event_cs}(%rip)
    movq %rbp, .Lvcpu+{event_rip}(%rip)
    movq %rdx, .Lvcpu+{event_error}(%rip)
    movq {handler}(%r8), %rax
    movq %rax, .Lvcpu+{event_handler}(%rip)
    /* The block runs on the handler's stack, aligned as for a frame, in the kernel's segments, with the flags that a gate leaves. */
    leaq .Lguest_tss(%rip), %rbx
    addq {stack}(%r8), %rbx
    movq (%rbx), %rax
    andq $~15, %rax
    movq %rax, .Lctl+{frame_rsp}(%rip)
    movq {block}(%r8), %rax
    movq %rax, .Lctl+{frame_rip}(%rip)
    andl $0x200cd5, %r10d
    orl $0x202, %r10d
    movq %r10, .Lctl+{frame_rflags}(%rip)
    leaq .Lrvmm_image+{gdt}(%rip), %rbx
    movq .Lctl+{syscall_cs}(%rip), %rax
    movq %rax, .Lctl+{frame_cs}(%rip)
    andl $0xfff8, %eax
    movq {code}(%r8), %rcx
    movq %rcx, (%rbx,%rax)
    movq .Lctl+{syscall_ss}(%rip), %rax
    movq %rax, .Lctl+{frame_ss}(%rip)
    andl $0xfff8, %eax
    movq .Lctl+{syscall_descriptors}+8(%rip), %rcx
    movq %rcx, (%rbx,%rax)
    movq .Lctl+{syscall_cr3}(%rip), %rcx
    movq .Lctl+{syscall_cr4}(%rip), %rax
    leaq .Lctl+{frame}(%rip), %rsp
    jmp .Lturn

    /* An exception with CS.RPL 0 in its frame: the switcher itself was interrupted. Stack: vector, error, RIP, CS, RFLAGS, RSP, SS. */
    .balign 16
.Lring0:
    pushq %rax
    movzbl 8(%rsp), %eax
    xorb $0x80, %al
    cmpb $2, %al
    je .Lring0_nmi
    cmpb $18, %al
    je .Lring0_mc
    cmpb $1, %al
    je .Lring0_db
    cmpb $0, .Lctl+{exiting}(%rip)
    jne .Ldead
    movq %rax, .Lctl+{fault_vector}(%rip)
    movq 16(%rsp), %rax
    movq %rax, .Lctl+{fault_error}(%rip)
    movq 24(%rsp), %rax
    movq %rax, .Lctl+{fault_rip}(%rip)
    movq %cr2, %rax
    movq %rax, .Lctl+{cr2}(%rip)
    movb $1, .Lctl+{aborted}(%rip)
    leaq .Lctl+{frame}(%rip), %rsp
    jmp .Lout

    /* A fault while the host's state is being restored: there is no state left to go back to. */
.Ldead:
    hlt
    jmp .Ldead

.Lring0_db:
    movb $1, .Lctl+{pending_db}(%rip)
    pushq %rbx
    movq 32(%rsp), %rax
    jmp .Lsyscall_window
.Lring0_nmi:
    movb $1, .Lctl+{pending_nmi}(%rip)
    jmp .Lleave_or_resume
.Lring0_mc:
    movb $1, .Lctl+{pending_mc}(%rip)
.Lleave_or_resume:
    /* Between the check and IRETQ the event would wait for the next exit: leave now. The guest's registers are still in its context. */
    pushq %rbx
    movq 32(%rsp), %rax
    leaq .Lcheck(%rip), %rbx
    cmpq %rbx, %rax
    jb 1f
    leaq .Liret_end(%rip), %rbx
    cmpq %rbx, %rax
    jb .Lpending
1:
.Lsyscall_window:
    /* At the first instructions behind SYSCALL the stack is the guest's: below it, or anywhere near it, nothing of ours is written.
       What is left of them is done here, and they go on on our own stack. NMIs stay blocked, and there is no IRETQ before the check. */
    leaq .Lsyscall_stack(%rip), %rbx
    cmpq %rbx, %rax
    jae 1f
    leaq .Lsyscall_compat(%rip), %rbx
    cmpq %rbx, %rax
    jb 1f
    jne 2f
    movb $1, .Lctl+{syscall_compat}(%rip)
2:  incq .Lctl+{rolled}(%rip)
    movq 56(%rsp), %rax
    movq %rax, .Lctl+{frame_rsp}(%rip)
    popq %rbx
    popq %rax
    leaq .Lctl+{frame_vector}(%rip), %rsp
    jmp .Lsyscall_stack
1:  popq %rbx
    /* Back without IRETQ: RIP, RFLAGS and RAX below the interrupted stack pointer, where nothing lives (no red zone here). */
    pushq %rbx
    movq 56(%rsp), %rax
    subq $24, %rax
    movq 32(%rsp), %rbx
    movq %rbx, 16(%rax)
    movq 48(%rsp), %rbx
    movq %rbx, 8(%rax)
    movq 8(%rsp), %rbx
    movq %rbx, (%rax)
    popq %rbx
    movq %rax, %rsp
    popq %rax
    popfq
    ret
    int3

    /* Last, so that all the rest and the stubs of the exceptions share a page. The vectors with an error code: 8, 10-14, 17, 21, 29, 30. */
    .set .Lerrors, (1<<8)|(1<<10)|(1<<11)|(1<<12)|(1<<13)|(1<<14)|(1<<17)|(1<<21)|(1<<29)|(1<<30)
    .set .Lvector, 0
    .balign 16
.Lstubs:
    .rept 256
    .balign 16, 0xcc
    endbr64
    .if (.Lvector >= 32) || !((.Lerrors >> .Lvector) & 1)
    pushq $0
    .endif
    pushq $(.Lvector - 128)
    .if (.Lvector == 1) || (.Lvector == 2) || (.Lvector == 8) || (.Lvector == 18)
    jmp .Lexit_ist
    .else
    jmp .Lexit
    .endif
    .set .Lvector, .Lvector + 1
    .endr

    /* Offsets that Rust wants to know: the stubs, the loads that may fault. */
    .balign 4
    .globl rvmm_image_offsets
rvmm_image_offsets:
    .long .Lstubs - .Lrvmm_image
    .long .Lload_ldt - .Lrvmm_image
    .long .Lload_es - .Lrvmm_image
    .long .Lload_ds - .Lrvmm_image
    .long .Lload_fs - .Lrvmm_image
    .long .Lload_gs - .Lrvmm_image
    .long .Lloads_end - .Lrvmm_image
    .long .Liret - .Lrvmm_image
    .long .Lsyscall - .Lrvmm_image
    .long .Lsyscall_compat - .Lrvmm_image
    .globl rvmm_image_end
rvmm_image_end:
    .popsection
"#,
    control = const CONTROL_PAGE * PAGE,
    vcpu_page = const VCPU_PAGE * PAGE,
    vcpu_words = const VCPU_WORDS,
    call_rip = const BLOCK_CALL + offset_of!(BlockCall, rip),
    call_rsp = const BLOCK_CALL + offset_of!(BlockCall, rsp),
    call_rcx = const BLOCK_CALL + offset_of!(BlockCall, rcx),
    call_r11 = const BLOCK_CALL + offset_of!(BlockCall, r11),
    call_flags = const BLOCK_CALL + offset_of!(BlockCall, flags),
    call_kind = const BLOCK_CALL + offset_of!(BlockCall, kind),
    tss_page = const TSS_PAGE * PAGE,
    vcpu_cr2 = const VCPU_CR2,
    event_ss = const BLOCK_EVENT + offset_of!(BlockEvent, ss),
    event_rsp = const BLOCK_EVENT + offset_of!(BlockEvent, rsp),
    event_flags = const BLOCK_EVENT + offset_of!(BlockEvent, flags),
    event_cs = const BLOCK_EVENT + offset_of!(BlockEvent, cs),
    event_rip = const BLOCK_EVENT + offset_of!(BlockEvent, rip),
    event_error = const BLOCK_EVENT + offset_of!(BlockEvent, error),
    event_handler = const BLOCK_EVENT + offset_of!(BlockEvent, handler),
    slot = const size_of::<EventSlot>(),
    block = const offset_of!(EventSlot, block),
    handler = const offset_of!(EventSlot, handler),
    stack = const offset_of!(EventSlot, stack),
    code = const offset_of!(EventSlot, code),
    slot_words = const offset_of!(EventSlot, words),
    taken = const offset_of!(EventSlot, taken),
    page_fault = const EventLoan::PAGE_FAULT,
    interrupt = const EventLoan::INTERRUPT,
    by_page_fault = const EventLoan::BY_EVENT + EventLoan::PAGE_FAULT as u16,
    by_interrupt = const EventLoan::BY_EVENT + EventLoan::INTERRUPT as u16,
    events = const offset_of!(Control, events),
    error_bits = const offset_of!(Control, error_bits),
    int_error = const offset_of!(Control, int_error),
    flat_code = const offset_of!(Control, flat_code),
    event_cr2 = const offset_of!(Control, event_cr2),
    event_cr2_before = const offset_of!(Control, event_cr2_before),
    event_frame = const offset_of!(Control, event_frame),
    may_reflect = const offset_of!(Control, may_reflect),
    vmm_tss = const VMM_TSS,
    host_cs = const HOST_CS,
    host_ss = const HOST_SS,
    frame = const offset_of!(Control, frame),
    frame_rcx = const offset_of!(Control, frame) + offset_of!(Frame, gpr) + 8,
    frame_r11 = const offset_of!(Control, frame) + offset_of!(Frame, gpr) + 11 * 8,
    frame_rip = const offset_of!(Control, frame) + offset_of!(Frame, rip),
    frame_cs = const offset_of!(Control, frame) + offset_of!(Frame, cs),
    frame_rflags = const offset_of!(Control, frame) + offset_of!(Frame, rflags),
    frame_rsp = const offset_of!(Control, frame) + offset_of!(Frame, rsp),
    frame_ss = const offset_of!(Control, frame) + offset_of!(Frame, ss),
    frame_vector = const offset_of!(Control, frame) + offset_of!(Frame, vector),
    host_rsp = const offset_of!(Control, host_rsp),
    host_cr0 = const offset_of!(Control, host_cr0),
    host_cr3 = const offset_of!(Control, host_cr3),
    host_cr4 = const offset_of!(Control, host_cr4),
    guest_cr0 = const offset_of!(Control, guest_cr0),
    guest_cr3 = const offset_of!(Control, guest_cr3),
    guest_cr4 = const offset_of!(Control, guest_cr4),
    cr2 = const offset_of!(Control, cr2),
    idtr_a = const offset_of!(Control, idtr_a),
    idtr_b = const offset_of!(Control, idtr_b),
    gdtr_shadow = const offset_of!(Control, gdtr_shadow),
    gdtr_transition = const offset_of!(Control, gdtr_transition),
    host_gdtr_writable = const offset_of!(Control, host_gdtr_writable),
    host_gdtr = const offset_of!(Control, host_gdtr),
    host_idtr = const offset_of!(Control, host_idtr),
    host_tss_descriptor = const offset_of!(Control, host_tss_descriptor),
    host_fs_base = const offset_of!(Control, host_fs_base),
    host_gs_base = const offset_of!(Control, host_gs_base),
    guest_es = const offset_of!(Control, guest_es),
    guest_ds = const offset_of!(Control, guest_ds),
    guest_fs = const offset_of!(Control, guest_fs),
    guest_gs = const offset_of!(Control, guest_gs),
    guest_ldt = const offset_of!(Control, guest_ldt),
    disarm = const offset_of!(Control, disarm),
    long_mode = const offset_of!(Control, long_mode),
    guest_fs_base = const offset_of!(Control, guest_fs_base),
    guest_gs_base = const offset_of!(Control, guest_gs_base),
    gdt = const GDT_PAGE * PAGE,
    ldt = const LDT_PAGE * PAGE,
    host_es = const offset_of!(Control, host_es),
    host_ds = const offset_of!(Control, host_ds),
    host_fs = const offset_of!(Control, host_fs),
    host_gs = const offset_of!(Control, host_gs),
    host_ldt = const offset_of!(Control, host_ldt),
    host_tr = const offset_of!(Control, host_tr),
    pending = const offset_of!(Control, pending_nmi),
    pending_nmi = const offset_of!(Control, pending_nmi),
    pending_mc = const offset_of!(Control, pending_mc),
    pending_db = const offset_of!(Control, pending_db),
    aborted = const offset_of!(Control, aborted),
    exiting = const offset_of!(Control, exiting),
    syscall_cr3 = const offset_of!(Control, syscall_cr3),
    syscall_cr4 = const offset_of!(Control, syscall_cr4),
    syscall_rip = const offset_of!(Control, syscall_rip),
    syscall_keep = const offset_of!(Control, syscall_keep),
    syscall_unusual = const offset_of!(Control, syscall_unusual),
    syscall_cs = const offset_of!(Control, syscall_cs),
    syscall_ss = const offset_of!(Control, syscall_ss),
    syscall_descriptors = const offset_of!(Control, syscall_descriptors),
    rolled = const offset_of!(Control, rolled),
    turns = const offset_of!(Control, turns),
    returns = const offset_of!(Control, returns),
    program_cr3 = const offset_of!(Control, program_cr3),
    program_cr4 = const offset_of!(Control, program_cr4),
    program_cs = const offset_of!(Control, program_cs),
    program_ss = const offset_of!(Control, program_ss),
    blocks = const offset_of!(Control, blocks),
    words = const offset_of!(Control, words),
    may_return = const offset_of!(Control, may_return),
    in_kernel = const offset_of!(Control, in_kernel),
    may_turn = const offset_of!(Control, may_turn),
    syscall_compat = const offset_of!(Control, syscall_compat),
    syscall_exit = const offset_of!(Control, syscall_exit),
    fault_vector = const offset_of!(Control, fault_vector),
    fault_error = const offset_of!(Control, fault_error),
    fault_rip = const offset_of!(Control, fault_rip),
    options(att_syntax)
);

extern "C" {
    static rvmm_image_start: u8;
    static rvmm_image_end: u8;
    static rvmm_image_offsets: Offsets;
}

/// The places in the image that Rust must know, as offsets from its start.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Offsets {
    pub(crate) stubs: u32,
    pub(crate) load_ldt: u32,
    pub(crate) load_es: u32,
    pub(crate) load_ds: u32,
    pub(crate) load_fs: u32,
    pub(crate) load_gs: u32,
    pub(crate) loads_end: u32,
    pub(crate) iret: u32,
    pub(crate) syscall: u32,
    pub(crate) syscall_compat: u32,
}

/// Bytes from one exit stub to the next.
pub(crate) const STUB_SIZE: u64 = 16;

/// The image's bytes.
pub(crate) fn bytes() -> &'static [u8] {
    let start = &raw const rvmm_image_start;
    let end = &raw const rvmm_image_end;
    // SAFETY: the two symbols bound one object in read-only data, emitted above, that lives as long as the module.
    unsafe { core::slice::from_raw_parts(start, end.addr().wrapping_sub(start.addr())) }
}

/// The image's table of offsets.
pub(crate) fn offsets() -> Offsets {
    // SAFETY: the symbol is emitted above with this layout and never written.
    unsafe { rvmm_image_offsets }
}
