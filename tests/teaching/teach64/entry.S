# Entered in flat protected mode at the physical address: long mode with pages of 2 MiB, the same first GiB at 0, at FFFF800000000000 and at
# FFFFFFFF80000000, and the APICs where they are.
.equ BASE, 0xffffffff80000000

.text
.code32
.globl entry
entry:	mov $(level4 - BASE), %edi
	movl $(level3 - BASE + 7), (%edi)
	movl $(level3 - BASE + 7), 256 * 8(%edi)
	movl $(level3_top - BASE + 7), 511 * 8(%edi)
	movl $(first - BASE + 7), level3 - BASE
	movl $(last - BASE + 3), level3 - BASE + 3 * 8
	movl $(first - BASE + 7), level3_top - BASE + 510 * 8
	mov $(first - BASE), %edi
	mov $0x83, %eax
	mov $512, %ecx
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	# From FEC00000 on, not cached.
	mov $(last - BASE + 0x1f6 * 8), %edi
	mov $0xfec0009b, %eax
	mov $2, %ecx
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	mov $(level4 - BASE), %eax
	mov %eax, %cr3
	# SYSCALL, long mode, no-execute.
	mov $0xc0000080, %ecx
	rdmsr
	or $0x901, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80010000, %eax
	mov %eax, %cr0
	lgdt early - BASE
	ljmp $0x08, $(low - BASE)
.code64
low:	movabs $high, %rax
	jmp *%rax
high:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $stack_top, %rsp
	xor %ebp, %ebp
	push $0
	popf
	call main
1:	hlt
	jmp 1b

.section .rodata
.globl user_image, user_image_end
	.balign 8
user_image:
	.incbin "user.bin"
user_image_end:
	.balign 8
early_gdt:
	.quad 0, 0x00209a0000000000, 0x0000920000000000
early:	.word 23
	.long early_gdt - BASE

.bss
	.balign 4096
.globl level4, first
level4:	.space 4096
level3:	.space 4096
level3_top:
	.space 4096
first:	.space 4096
last:	.space 4096
	.space 8192
.globl stack_top
stack_top:
