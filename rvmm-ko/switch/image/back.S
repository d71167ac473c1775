/* SPDX-License-Identifier: GPL-2.0 */
/* A block's call of ring 0: the turn from the kernel to its program. And a SYSCALL that is no turn. */
    /* SYSCALL of the guest's kernel: a block's call, if it comes from where blocks are. What it says is the guest's to write: each word
       is read once, by the page's address in the area, and looked at before anything is changed. */
.Lcall:
    cmpb $0, .Lctl+{may_return}(%rip)
    je .Lsyscall_exit
    subq .Lctl+{blocks}(%rip), %rcx
    cmpq .Lctl+{blocks}+8(%rip), %rcx
    jae .Lsyscall_exit
    /* Data segments that an IRET leaves alone, as SYSRET does: not null ones with an RPL, nor the kernel's own, which are here for its CS and SS.
       Whatever else ring 3 could load from the shadow tables is a program's. */
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    decl %eax
    cmpl $3, %eax
    jb .Lsyscall_exit
    incl %eax
    orl $3, %eax
    cmpl .Lctl+{syscall_cs}(%rip), %eax
    je .Lsyscall_exit
    cmpl .Lctl+{syscall_ss}(%rip), %eax
    je .Lsyscall_exit
    .endr
    movq .Lvcpu+{call_rip}(%rip), %rcx
    movq .Lvcpu+{call_rsp}(%rip), %rdx
    movq .Lvcpu+{call_rcx}(%rip), %rsi
    movq .Lvcpu+{call_r11}(%rip), %rdi
    movq .Lvcpu+{call_flags}(%rip), %r11
    movq .Lvcpu+{call_kind}(%rip), %r8
    movq .Lctl+{program_cs}(%rip), %r9
    cmpl ${by_sysretl}, %r8d
    jb 2f
    /* To compatibility code: below 4 GiB, where a SYSRET does not look higher. */
    movq .Lctl+{compat_cs}(%rip), %r9
    testl %r9d, %r9d
    jz .Lsyscall_exit
    cmpl ${by_sysexit}, %r8d
    jne 1f
    /* The flags stay, which are those of the frame and the virtual ones: IF alone. */
    cmpb $0, .Lctl+{may_sysexit}(%rip)
    je .Lsyscall_exit
    cmpl $0x200, .Lvcpu+{vcpu_if}(%rip)
    jne .Lsyscall_exit
    cmpl $0, .Lvcpu+{vcpu_flags}(%rip)
    jne .Lsyscall_exit
    movq .Lctl+{frame_rflags}(%rip), %r11
    andq $~0x10000, %r11
    movl %edx, %edx
    jmp 3f
1:  cmpl ${by_sysretl}, %r8d
    jne 1f
3:  movl %ecx, %ecx
1:  movq %rcx, %rax
    shrq $32, %rax
    jnz .Lsyscall_exit
    /* To the lower half; with IF, and nothing else but status flags, DF, ID, and of an IRET (the even kinds) RF. */
2:  movq %rcx, %rax
    shrq $47, %rax
    jnz .Lsyscall_exit
    testq $~0x210ed7, %r11
    jnz .Lsyscall_exit
    testl $0x200, %r11d
    jz .Lsyscall_exit
    testl $1, %r8d
    jz 1f
    testl $0x10000, %r11d
    jnz .Lsyscall_exit
1:
    movq %rsi, .Lctl+{frame_rcx}(%rip)
    movq %rdi, .Lctl+{frame_r11}(%rip)
    /* The turn back, to RCX with RDX as the stack pointer, R11 as flags and R9 as CS. From here on nothing stops it. */
.Lto_program:
    incq .Lctl+{returns}(%rip)
    movb $0, .Lctl+{in_kernel}(%rip)
    movq %rcx, .Lctl+{frame_rip}(%rip)
    movq %rdx, .Lctl+{frame_rsp}(%rip)
    orq $2, %r11
    movq %r11, .Lctl+{frame_rflags}(%rip)
    movq %r9, .Lctl+{frame_cs}(%rip)
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

