// An option ROM from which firmware "boots" the kernel that was given on the command line. It asks the BIOS for the memory map and tells the
// machine by a port; that loads the kernel and goes on in it, so the instruction behind the port access is never reached.
//
// Expansion header and entry: PCI Local Bus Specification 2.1, section 6.3.3.1, and Plug and Play BIOS Specification 1.0A, section 3.2.
	.pushsection .rodata
	.balign 16
	.code16
rvmm_kernel_rom:
	.byte 0x55, 0xaa
	.byte 1			// blocks of 512 bytes
	lret			// initialization: nothing to do
	.space 0x1a - (. - rvmm_kernel_rom)
	.word rvmm_kernel_rom_pnp - rvmm_kernel_rom
	.space 0x20 - (. - rvmm_kernel_rom)
rvmm_kernel_rom_pnp:
	.ascii "$PnP"
	.byte 1, 2		// revision; length in blocks of 16 bytes
	.word 0			// the last header
	.byte 0
	.byte 0			// checksum, filled in later
	.long 0			// device identifier
	.word 0			// manufacturer
	.word rvmm_kernel_rom_name - rvmm_kernel_rom
	.byte 0, 0, 0		// kind of device
	.byte 0			// indicators
	.word 0, 0		// boot connection and disconnect vectors
	.word rvmm_kernel_rom_boot - rvmm_kernel_rom
	.word 0, 0

rvmm_kernel_rom_name:
	.asciz "kernel of rvmm run"

// The bootstrap entry vector.
rvmm_kernel_rom_boot:
	cld
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw ${map}, %di
	xorw %si, %si
	xorl %ebx, %ebx
1:	movl $0xe820, %eax
	movl $0x534d4150, %edx	// "SMAP"
	movl $20, %ecx
	int $0x15
	jc 2f
	cmpl $0x534d4150, %eax
	jne 2f
	incw %si
	addw $20, %di
	testl %ebx, %ebx
	jz 2f
	cmpw ${most}, %si
	jb 1b
2:	cli
	movw %si, %ax
	movw ${port}, %dx
	outw %ax, %dx
3:	hlt
	jmp 3b
	.space 512 - (. - rvmm_kernel_rom)
	.code64
	.popsection
