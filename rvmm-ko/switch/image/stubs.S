/* SPDX-License-Identifier: GPL-2.0 */
/* The stubs of the 256 vectors, and the offsets that Rust wants to know. */
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
