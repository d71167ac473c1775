// Entry of every 64-bit micro-guest: multiboot 1 header, long mode, stack, segments, then main().
//
// The loader enters _start in flat 32-bit protected mode with paging and interrupts off. The steps to
// long mode are those of SDM 3, 10.8.5: PAE, CR3, EFER.LME, CR0.PG, a far jump to 64-bit code.

	.set KBASE, 0xffffffff80000000

	.section .multiboot, "ax"
	.code32
	.balign 4
	.long 0x1BADB002                // magic
	.long 0                         // flags: nothing wanted, the ELF headers say where to load
	.long -0x1BADB002               // checksum
	.balign 16                      // wrap.S relies on 16

	.globl _start
_start:
	cld
	mov $boot_stack_top - KBASE, %esp
	mov $0x20, %eax                 // CR4.PAE, nothing else
	mov %eax, %cr4
	mov $boot_pml4 - KBASE, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx           // EFER
	rdmsr
	or $0x900, %eax                 // LME, NXE
	wrmsr
	mov $0x80010031, %eax           // PG, WP, NE, ET, PE
	mov %eax, %cr0
	lgdt boot_gdtr - KBASE
	ljmp $0x08, $1f - KBASE
	.code64
1:	mov $2f, %rax
	jmp *%rax
2:	mov $boot_stack_top, %rsp
	xor %ebp, %ebp
	call rt_init
	call main
	mov %eax, %edi
	call finish

	.balign 8
boot_gdt:
	.quad 0
	.quad 0x00af9b000000ffff        // 64-bit code
	.quad 0x00cf93000000ffff        // data
boot_gdtr:
	.word . - boot_gdt - 1
	.long boot_gdt - KBASE

// Four levels: the first 64 MiB one to one (PML4 entry 0) and at KBASE (entries 511, 510), through one
// page directory. The upper mapping is the supervisor's alone by its upper entries; in the lower one the
// table of the first 2 MiB decides, in which rt_init gives the guest's pages to ring 3.
	.data
	.balign 4096
	.globl boot_pml4, boot_pd, boot_pt
boot_pml4:
	.quad boot_pdpt_low - KBASE + 7
	.skip 510 * 8
	.quad boot_pdpt_high - KBASE + 3
boot_pdpt_low:
	.quad boot_pd - KBASE + 7
	.skip 511 * 8
boot_pdpt_high:
	.skip 510 * 8
	.quad boot_pd - KBASE + 3
	.quad 0
boot_pd:
	.quad boot_pt - KBASE + 7
	at = 0x200000
	.rept 31
	.quad at + 0x83
	at = at + 0x200000
	.endr
	.skip 480 * 8
boot_pt:
	at = 0
	.rept 512
	.quad at + 3
	at = at + 0x1000
	.endr

	.bss
	.balign 4096
	.globl boot_stack
boot_stack:
	.skip 16384
	.globl boot_stack_top
boot_stack_top:
