/* SPDX-License-Identifier: GPL-2.0 */
/* The call of ring 0 by a block of a 32-bit kernel: the turn from the kernel to its program. */
    /* An exception in the guest's kernel. A call is #GP at an INT of the vector that calls have, where blocks are; no INT of the guest's with that
       vector is there. As for 64-bit code, what it says is the guest's to write: each word is read once, by the page's address in the area, and
       looked at before anything is changed. What is refused is an ordinary exit, at the INT. */
.Lcall32:
    cmpb $0, .Lctl+{long_mode}(%rip)
    jne .Lsegments
    cmpb $0, .Lctl+{may_return}(%rip)
    je .Lsegments
    cmpl $(13 - 128), .Lctl+{frame_vector}(%rip)
    jne .Lsegments
    cmpl ${call_error}, .Lctl+{frame_vector}+8(%rip)
    jne .Lsegments
    movl .Lctl+{frame_rip}(%rip), %ecx
    subq .Lctl+{blocks}(%rip), %rcx
    cmpq .Lctl+{blocks}+8(%rip), %rcx
    jae .Lsegments
    /* An IRET to the outer ring makes null of data segments with a lower DPL, and of null selectors with an RPL; so does the tail's IRETQ, by
       the same rule, as nothing else than guest segments of that DPL are there. But for two kinds: the kernel's CS and SS, which have entries
       that the guest does not know of; and what the registers held in the beginning by entries that were good for one load, with whatever DPL
       that takes. */
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    .irp place, {syscall_cs}, {syscall_ss}, {lent}, {lent}+2, {lent}+4, {lent}+6
    movzwl .Lctl+\place(%rip), %ebx
    xorl %eax, %ebx
    testl $0xfffc, %ebx
    jz .Lsegments
    .endr
    .endr
    movl .Lvcpu+{call_rip}(%rip), %ecx
    movl .Lvcpu+{call_rsp}(%rip), %edx
    movl .Lvcpu+{call_flags}(%rip), %r11d
    movl .Lvcpu+{call_kind}(%rip), %eax
    cmpl ${by_iret}, %eax
    je 2f
    cmpl ${by_sysexit}, %eax
    jne .Lsegments
    /* SYSEXIT leaves data segments alone, whatever they are: here those that the tail's IRETQ does, too. And it leaves the flags, which are those of
       the frame, but for RF of the fault, and the virtual ones: IF alone. */
    cmpb $0, .Lctl+{may_sysexit}(%rip)
    je .Lsegments
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    testl %eax, %eax
    jz 1f
    cmpl $3, %eax
    je .Lsegments
    notl %eax
    testb $3, %al
    jnz .Lsegments
1:
    .endr
    cmpl $0x200, .Lvcpu+{vcpu_if}(%rip)
    jne .Lsegments
    cmpl $0, .Lvcpu+{vcpu_flags}(%rip)
    jne .Lsegments
    movl .Lctl+{frame_rflags}(%rip), %r11d
    andl $~0x10000, %r11d
2:
    /* With IF, and nothing else but status flags, DF, ID and RF. */
    testl $~0x210ed7, %r11d
    jnz .Lsegments
    testl $0x200, %r11d
    jz .Lsegments
    movq .Lctl+{program_cs}(%rip), %r9
    jmp .Lto_program

