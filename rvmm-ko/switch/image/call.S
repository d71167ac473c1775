/* SPDX-License-Identifier: GPL-2.0 */
/* SYSCALL in the guest world, and the turn from a program to its kernel. */
    /* LSTAR and CSTAR. SYSCALL has put RIP to RCX and the flags to R11 and cleared IF, TF, DF, AC, NT, IOPL and RF; CS is 0x10 and SS 0x18,
       flat, by STAR; RSP is still the guest's, whatever that is. Until it is ours nothing may be pushed, and .Lring0 does not resume here. */
    .balign 16
.Lsyscall_compat:
    movb $1, .Lctl+{syscall_compat}(%rip)
.Lsyscall:
    movq %rsp, .Lctl+{frame_rsp}(%rip)
    leaq .Lctl+{frame_vector}(%rip), %rsp
.Lsyscall_stack:
    rvmm_push_registers
    movq %rcx, .Lctl+{frame_rip}(%rip)
    movq %r11, .Lctl+{frame_rflags}(%rip)
    cmpb $0, .Lctl+{pending_db}(%rip)
    jne .Lsyscall_exit
    movq .Lctl+{syscall_rip}(%rip), %r9
    cmpb $0, .Lctl+{syscall_compat}(%rip)
    je 1f
    cmpb $0, .Lctl+{in_kernel}(%rip)
    jne .Lsyscall_exit
    cmpb $0, .Lctl+{may_turn_compat}(%rip)
    je .Lsyscall_exit
    movq .Lctl+{compat_rip}(%rip), %r9
1:  cmpb $0, .Lctl+{in_kernel}(%rip)
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
    movb $0, .Lctl+{syscall_compat}(%rip)
    andq $~0x10000, .Lctl+{frame_r11}(%rip)
    andq .Lctl+{syscall_keep}(%rip), %r11
    orq $0x202, %r11
    movq %r11, .Lctl+{frame_rflags}(%rip)
    movq %r9, .Lctl+{frame_rip}(%rip)
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

