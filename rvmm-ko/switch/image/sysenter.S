/* SPDX-License-Identifier: GPL-2.0 */
/* SYSENTER of programs, which faults while IA32_SYSENTER_CS is 0: it enters the kernel without an exit. */
    /* #GP with error code 0, or #UD (AMD's CPUs in long mode), of code whose RIP is its linear address; in its plain form, which is 2 bytes long. The
       first byte has just been fetched by this very address. If it is 0F the second has been, too, as what 0F begins is longer than one byte; before
       that is known it is not looked at, since it may lie on another page. Neither lies where there is no fetching, beyond 4 GiB or for 64-bit code
       the lower half of the addresses. Nothing is changed before it is certain. */
.Lsysenter:
    leaq .Lctl+{events}+{sysenter}*{slot}(%rip), %r8
    cmpq $0, {block}(%r8)
    je .Lsegments
    leaq 1(%rbp), %rax
    orq %rbp, %rax
    cmpq .Lctl+{program_cs}(%rip), %rcx
    jne 1f
    cmpb $0, .Lctl+{long_mode}(%rip)
    je 2f
    shrq $47, %rax
    jnz .Lsegments
    jmp 3f
1:  cmpq .Lctl+{flat_code}(%rip), %rcx
    jne .Lsegments
2:  shrq $32, %rax
    jnz .Lsegments
3:  cmpb $0x0f, (%rbp)
    jne .Lsegments
    cmpb $0x34, 1(%rbp)
    jne .Lsegments
    /* With TF, NT or AC, and with a null selector that has an RPL, it is the engine's, as at events. */
    testl $0x44100, %r10d
    jnz .Lsegments
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    decl %eax
    cmpl $3, %eax
    jb .Lsegments
    .endr

    /* From here on nothing stops it. Neither RIP nor the stack pointer are kept, and the flags lose IF and RF only. */
    incq {taken}(%r8)
    movb ${by_sysenter}, .Lctl+{in_kernel}(%rip)
    .set .Lword, 0
    .rept {vcpu_words}
    movq {slot_words}+8*.Lword(%r8), %rax
    movq %rax, .Lvcpu+8*.Lword(%rip)
    .set .Lword, .Lword + 1
    .endr
    movq {stack}(%r8), %rsi
    jmp .Lto_kernel

