/* SPDX-License-Identifier: GPL-2.0 */
/* The way in: host stack, IDTs, GDTs, TSS, segments, control registers, then the guest's registers and IRETQ ("In" in image.rs). */
    /* The general registers in the order of a context, RSP left out: below a frame that is in place. */
    .macro rvmm_push_registers
    .irp register, %r15, %r14, %r13, %r12, %r11, %r10, %r9, %r8, %rdi, %rsi, %rbp, $0, %rbx, %rdx, %rcx, %rax
    pushq \register
    .endr
    .endm

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

