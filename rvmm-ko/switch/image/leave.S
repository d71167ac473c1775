/* SPDX-License-Identifier: GPL-2.0 */
/* The way out of any exception or interrupt of the guest world ("Out" in image.rs). */
    /* The selectors of the guest's data segments. */
    .macro rvmm_store_segments
    movw %es, .Lctl+{guest_es}(%rip)
    movw %ds, .Lctl+{guest_ds}(%rip)
    movw %fs, .Lctl+{guest_fs}(%rip)
    movw %gs, .Lctl+{guest_gs}(%rip)
    /* It changes the bases without an exit: by WRFSBASE and WRGSBASE, or by loading a selector. */
    cmpb $0, .Lctl+{long_mode}(%rip)
    je 1f
    movl $0xc0000100, %ecx
    rdmsr
    movl %eax, .Lctl+{guest_fs_base}(%rip)
    movl %edx, .Lctl+{guest_fs_base}+4(%rip)
    movl $0xc0000101, %ecx
    rdmsr
    movl %eax, .Lctl+{guest_gs_base}(%rip)
    movl %edx, .Lctl+{guest_gs_base}+4(%rip)
1:
    .endm

    /* From the guest world to the host's, with its CR3 loaded, on any stack, but for the IDT: that comes last. */
    .macro rvmm_host_world
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
    .endm

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
    rvmm_push_registers
    /* AC, DF, NT, TF of the guest go. */
    pushq $2
    popfq
    movq %cr2, %rax
    movq %rax, .Lctl+{cr2}(%rip)
    cmpl $(14 - 128), .Lctl+{frame_vector}(%rip)
    je 1f
    cmpl $(3 - 128), .Lctl+{frame_vector}(%rip)
    jne .Lunserved
1:  cmpq $0, .Lctl+{serve}(%rip)
    jne .Lserve
.Lunserved:
    cmpb $0, .Lctl+{may_reflect}(%rip)
    jne .Levent
.Lsegments:
    rvmm_store_segments

.Lout:
    movb $1, .Lctl+{exiting}(%rip)
    movq .Lctl+{host_cr3}(%rip), %rax
    movq %rax, %cr3
    rvmm_host_world
    movq .Lctl+{host_rsp}(%rip), %rsp
    lidt .Lctl+{host_idtr}(%rip)
.Lreturn:
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
    orq .Lctl+{served}(%rip), %rax
    orq .Lctl+{events}+{taken}(%rip), %rax
    orq .Lctl+{events}+{slot}+{taken}(%rip), %rax
    orq .Lctl+{events}+2*{slot}+{taken}(%rip), %rax
    jnz 1f
    movb $2, .Lctl+{aborted}(%rip)
    jmp .Lout
    /* Behind a turn, or a fault served, the guest's context is not what it was, but the frame is complete, as pops change nothing: as if the event had
       come at the first instruction behind it. */
1:  movq $(2 - 128), .Lctl+{frame_vector}(%rip)
    cmpb $0, .Lctl+{pending_mc}(%rip)
    je .Lsegments
    movq $(18 - 128), .Lctl+{frame_vector}(%rip)
    jmp .Lsegments

