/* SPDX-License-Identifier: GPL-2.0 */
/* Exceptions of programs that are lent: INT n and page faults enter the kernel without an exit. */
    /* RIP, CS and flags of the frame. Outside long mode some emulated CPUs leave the upper half of RIP as it was. */
    .macro rvmm_load_event
    movq .Lctl+{frame_rip}(%rip), %rbp
    movq .Lctl+{frame_cs}(%rip), %rcx
    movq .Lctl+{frame_rflags}(%rip), %r10
    cmpb $0, .Lctl+{long_mode}(%rip)
    jne 1f
    movl %ebp, %ebp
1:
    .endm

    /* An exception in the guest world, and events of programs are lent: is it one of these? Nothing is changed before that is certain. */
.Levent:
    cmpb $0, .Lctl+{in_kernel}(%rip)
    jne .Lcall32
    rvmm_load_event
    movl .Lctl+{frame_vector}(%rip), %eax
    movl .Lctl+{frame_vector}+8(%rip), %edx
    cmpl $(14 - 128), %eax
    je .Lpage_fault
    cmpl $(6 - 128), %eax
    je .Lsysenter
    cmpl $(13 - 128), %eax
    jne .Lsegments
    testl %edx, %edx
    jz .Lsysenter
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
    /* And one that the engine has told to be the guest's own (serve.S), with the error code in RDX. */
.Lreflect:
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
    /* The stack pointer of the handler, in long mode aligned as for a frame; else with SS behind it, which must be the one that is lent. */
    leaq .Lguest_tss(%rip), %rbx
    addq {stack}(%r8), %rbx
    movq (%rbx), %rsi
    cmpb $0, .Lctl+{long_mode}(%rip)
    jne 1f
    movq %rsi, %rax
    shrq $32, %rax
    cmpw {stack_segment}(%r8), %ax
    jne .Lsegments
    movl %esi, %esi
    jmp 2f
1:  andq $~15, %rsi
2:

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
    /* The turn's end, in the kernel's segments, with the flags that a gate leaves: with the slot in R8, the stack pointer in RSI, the flags of the
       program in R10. */
.Lto_kernel:
    movq %rsi, .Lctl+{frame_rsp}(%rip)
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

