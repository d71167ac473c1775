# A boot program that uses the APICs as kernels do: interrupts to itself in the order of their priority, the local timer, the 8254 and the
# clock through the I/O APIC, the 8259s as a virtual wire, CPUs that are not there; and the tables that tell of it all.
.equ sectors, 14
.include "boot.inc"

.equ LAPIC, 0xfee00000
.equ IOAPIC, 0xfec00000
.equ IDT, 0x2000
.equ LOG, 0x3000
.equ TABLES, 0x10000

	cli
	mov $0xff, %al
	out %al, $0x21
	out %al, $0xa1
	lgdt gdt_pointer
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmp $0x08, $flat
.code32
flat:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x7c00, %esp
	cld

	# Every vector's gate leads to its own entry of 8 bytes, which pushes its lower byte.
	mov $IDT, %edi
	mov $entries, %eax
	mov $256, %ecx
1:	movw %ax, (%edi)
	movw $0x08, 2(%edi)
	movw $0x8e00, 4(%edi)
	movw $0, 6(%edi)
	add $8, %edi
	add $8, %eax
	loop 1b
	lidt idt_pointer

	# What there is.
	mov $text_cpu, %esi
	call text
	mov $1, %eax
	cpuid
	mov %edx, %eax
	shr $9, %eax
	and $1, %eax
	call number
	mov %ebx, %eax
	shr $24, %eax
	call number
	mov $0x1b, %ecx
	rdmsr
	call number
	call end_of_line

	mov $text_registers, %esi
	call text
	mov $0x20, %eax
	call show
	mov $0x30, %eax
	call show
	mov $0xd0, %eax
	call show
	mov $0xe0, %eax
	call show
	mov $0xf0, %eax
	call show
	mov $0x320, %eax
	call show
	mov $0x350, %eax
	call show
	mov $0x360, %eax
	call show
	mov $0x370, %eax
	call show
	call end_of_line

	mov $text_ioapic, %esi
	call text
	xor %eax, %eax
	call io_show
	mov $1, %eax
	call io_read
	shr $16, %eax
	call number
	mov $0x10, %eax
	call io_show
	mov $0x3e, %eax
	call io_show
	call end_of_line

	# From here on nothing comes through LINT0.
	movl $0x10700, LAPIC + 0x350
	movl $0x1ff, LAPIC + 0xf0

	mov $text_self, %esi
	call text
	movl $0x00040041, LAPIC + 0x300
	sti
	nop
	cli
	movl $0, LAPIC + 0x310
	movl $0x00004042, LAPIC + 0x300
	sti
	nop
	cli
	movl $0x00084043, LAPIC + 0x300
	sti
	nop
	cli
	call show_log

	# The most urgent first, each with its own bit in service.
	mov $text_order, %esi
	call text
	movl $0x00040051, LAPIC + 0x300
	movl $0x00040061, LAPIC + 0x300
	movl $0x00040062, LAPIC + 0x300
	movl $0x00040071, LAPIC + 0x300
	mov $0x220, %eax
	call show
	mov $0x230, %eax
	call show
	sti
	nop
	cli
	call show_log

	# The task priority lets only what is above it through.
	mov $text_priority, %esi
	call text
	movl $0x60, LAPIC + 0x80
	movl $0x00040051, LAPIC + 0x300
	movl $0x00040061, LAPIC + 0x300
	movl $0x00040071, LAPIC + 0x300
	mov $0xa0, %eax
	call show
	sti
	nop
	cli
	call show_log
	mov $text_then, %esi
	call text
	movl $0, LAPIC + 0x80
	sti
	nop
	cli
	call show_log

	# Handlers that let others in: 91 inside 81.
	mov $text_nested, %esi
	call text
	movl $0x00040081, LAPIC + 0x300
	sti
	nop
	cli
	call show_log

	# The local timer, once: the count falls, ends at zero and stays there.
	mov $text_once, %esi
	call text
	movl $0xb, LAPIC + 0x3e0
	movl $0x48, LAPIC + 0x320
	movl $100000000, LAPIC + 0x380
	mov LAPIC + 0x390, %ebx
	mov $50, %ecx
1:	in $0x61, %al
	loop 1b
	mov LAPIC + 0x390, %eax
	cmp %ebx, %eax
	setb %al
	movzx %al, %eax
	call number
	movl $20000000, LAPIC + 0x380
	call wait
	mov $0x390, %eax
	call show
	mov $0x380, %eax
	call show
	call show_log

	# Periodically, five times.
	mov $text_periodic, %esi
	call text
	movl $0x20049, LAPIC + 0x320
	movl $20000000, LAPIC + 0x380
	mov $5, %ebx
1:	call wait
	dec %ebx
	jnz 1b
	movl $0x30049, LAPIC + 0x320
	movl $0, LAPIC + 0x380
	call show_log

	# The 8254 through the I/O APIC: pin 2, by edges.
	mov $text_pit, %esi
	call text
	mov $0x15, %eax
	xor %ebx, %ebx
	call io_write
	mov $0x14, %eax
	mov $0x31, %ebx
	call io_write
	mov $0x34, %al
	out %al, $0x43
	mov $0x9c, %al
	out %al, $0x40
	mov $0x2e, %al
	out %al, $0x40
	mov $5, %ebx
1:	call wait
	dec %ebx
	jnz 1b
	mov $0x14, %eax
	mov $0x10031, %ebx
	call io_write
	# What came meanwhile does not count.
	sti
	nop
	cli
	mov $text_pit_done, %esi
	call text
	movl $LOG, log_end
	call end_of_line

	# The clock through the I/O APIC, by level: it comes again until its cause is gone. Remote IRR is up while it is in service.
	mov $text_clock, %esi
	call text
	mov $0x21, %eax
	xor %ebx, %ebx
	call io_write
	mov $0x20, %eax
	mov $0x8038, %ebx
	call io_write
	mov $0x8a, %al
	out %al, $0x70
	mov $0x2a, %al
	out %al, $0x71
	mov $0x8c, %al
	out %al, $0x70
	in $0x71, %al
	mov $0x8b, %al
	out %al, $0x70
	in $0x71, %al
	or $0x40, %al
	mov %al, %ah
	mov $0x8b, %al
	out %al, $0x70
	mov %ah, %al
	out %al, $0x71
	call wait
	call show_log
	mov $0x20, %eax
	call io_show
	mov $0x10038, %ebx
	mov $0x20, %eax
	call io_write
	call end_of_line

	# The 8259s' vector through LINT0.
	mov $text_wire, %esi
	call text
	mov $0x11, %al
	out %al, $0x20
	mov $0xb0, %al
	out %al, $0x21
	mov $4, %al
	out %al, $0x21
	mov $1, %al
	out %al, $0x21
	mov $0xfe, %al
	out %al, $0x21
	movl $0x700, LAPIC + 0x350
	call wait
	movl $0x10700, LAPIC + 0x350
	mov $0xff, %al
	out %al, $0x21
	mov LOG, %al
	movzx %al, %eax
	call number
	movl $LOG, log_end
	call end_of_line

	# A non-maskable interrupt to itself; CPUs that are not there; system management mode.
	mov $text_others, %esi
	call text
	movl $0, LAPIC + 0x310
	movl $0x4400, LAPIC + 0x300
	nop
	movl $0x01000000, LAPIC + 0x310
	movl $0x4500, LAPIC + 0x300
	movl $0x8500, LAPIC + 0x300
	movl $0x4608, LAPIC + 0x300
	movl $0x4055, LAPIC + 0x300
	movl $0x000c4500, LAPIC + 0x300
	movl $0x000c4608, LAPIC + 0x300
	movl $0x000c4056, LAPIC + 0x300
	sti
	nop
	cli
	mov $0x300, %eax
	call show
	call show_log

	# Long mode: CR8 is the upper half of the task priority. Back in compatibility mode, where the rest runs.
	mov $text_cr8, %esi
	call text
	mov $TABLES, %edi
	xor %eax, %eax
	mov $0x1400, %ecx
	rep stosl
	movl $TABLES + 0x1003, TABLES
	movl $TABLES + 0x2003, TABLES + 0x1000
	movl $TABLES + 0x3003, TABLES + 0x1000 + 3 * 8
	mov $512, %ecx
	mov $TABLES + 0x2000, %edi
	mov $0x83, %eax
1:	mov %eax, (%edi)
	lea 0xc0000000(%eax), %edx
	mov %edx, 0x1000(%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	mov $wide_51, %eax
	mov $TABLES + 0x4000 + 0x51 * 16, %edi
	call wide_gate
	mov $wide_61, %eax
	mov $TABLES + 0x4000 + 0x61 * 16, %edi
	call wide_gate
	mov $wide_71, %eax
	mov $TABLES + 0x4000 + 0x71 * 16, %edi
	call wide_gate
	lidt wide_idt_pointer
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	mov $TABLES, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $0x18, $wide
.code64
wide:	mov $LAPIC, %ebp
	mov $6, %eax
	mov %rax, %cr8
	mov 0x80(%rbp), %ebx
	movl $0x00040051, 0x300(%rbp)
	movl $0x00040061, 0x300(%rbp)
	movl $0x00040071, 0x300(%rbp)
	sti
	nop
	mov %cr8, %rax
	call wide_note
	# Each lets one more in.
	mov $5, %eax
	mov %rax, %cr8
	nop
	call wide_note
	xor %eax, %eax
	mov %rax, %cr8
	nop
	cli
	movl $0x35, 0x80(%rbp)
	mov %cr8, %rax
	call wide_note
	movl $0, 0x80(%rbp)
	push $0x08
	mov $narrow_again, %eax
	push %rax
	lretq

wide_51:
	push %rax
	mov $0x51, %eax
	jmp 1f
wide_61:
	push %rax
	mov $0x61, %eax
	jmp 1f
wide_71:
	push %rax
	mov $0x71, %eax
1:	call wide_note
	movl $0, 0xb0(%rbp)
	pop %rax
	iretq

# wide_note: AL into the log.
wide_note:
	push %rcx
	push %rdx
	mov $log_end, %ecx
	mov (%rcx), %edx
	mov %al, (%rdx)
	incl (%rcx)
	pop %rdx
	pop %rcx
	ret
.code32
# wide_gate: a gate at EDI that leads to EAX.
wide_gate:
	mov %ax, (%edi)
	movw $0x18, 2(%edi)
	movw $0x8e00, 4(%edi)
	ret
narrow_again:
	mov %ebx, %eax
	call number
	call show_log

	# The tables: CPUs, buses, I/O APICs of the MP table; local APICs and I/O APICs of the MADT.
	mov $text_mp, %esi
	call text
	mov $0x5f504d5f, %eax
	call find
	mov 4(%esi), %esi
	movzwl 34(%esi), %ecx
	mov 36(%esi), %eax
	call number
	add $44, %esi
	xor %edx, %edx
	xor %ebx, %ebx
1:	mov (%esi), %al
	add $8, %esi
	cmp $2, %al
	je 3f
	test %al, %al
	jne 2f
	add $12, %esi
	inc %edx
	jmp 2f
3:	inc %ebx
2:	loop 1b
	mov %edx, %eax
	call number
	mov %ebx, %eax
	call number
	call end_of_line

	mov $text_acpi, %esi
	call text
	mov $0x20445352, %eax
	call find
	mov 16(%esi), %esi
	mov 4(%esi), %ecx
	sub $36, %ecx
	shr $2, %ecx
	add $36, %esi
1:	mov (%esi), %edi
	add $4, %esi
	cmpl $0x43495041, (%edi)
	je 2f
	loop 1b
	jmp failure
2:	mov 36(%edi), %eax
	call number
	mov 4(%edi), %ecx
	add %edi, %ecx
	add $44, %edi
	xor %edx, %edx
	xor %ebx, %ebx
3:	mov (%edi), %al
	cmp $1, %al
	ja 4f
	jb 5f
	inc %ebx
	jmp 4f
5:	inc %edx
4:	movzbl 1(%edi), %eax
	add %eax, %edi
	cmp %ecx, %edi
	jb 3b
	mov %edx, %eax
	call number
	mov %ebx, %eax
	call number
	call end_of_line
	mov $42, %eax
	jmp leave

failure:
	mov $text_wrong, %esi
	call text
	mov $1, %eax
leave:	mov $EXIT, %edx
	out %eax, %dx
1:	cli
	hlt
	jmp 1b

# find: the paragraph in E0000-FFFFF that begins with EAX, to ESI.
find:	mov $0xe0000, %esi
1:	cmp %eax, (%esi)
	je 2f
	add $16, %esi
	cmp $0x100000, %esi
	jb 1b
	jmp failure
2:	ret

# wait: until there is one entry more in the log.
wait:	mov log_end, %edx
1:	sti
	hlt
	cli
	cmp log_end, %edx
	je 1b
	ret

# show: the local APIC's register EAX.
show:	mov LAPIC(%eax), %eax
	jmp number

# io_show, io_read: the I/O APIC's register EAX. io_write: to EBX.
io_show:
	call io_read
	jmp number
io_read:
	mov %eax, IOAPIC
	mov IOAPIC + 0x10, %eax
	ret
io_write:
	mov %eax, IOAPIC
	mov %ebx, IOAPIC + 0x10
	ret

# show_log: what the handlers have noted, in a line.
show_log:
	mov $LOG, %edi
1:	cmp log_end, %edi
	je 2f
	movzbl (%edi), %eax
	call number
	inc %edi
	jmp 1b
2:	movl $LOG, log_end
end_of_line:
	mov $'\n', %al
	jmp letter

# text: what ESI points to.
text:	lodsb
	test %al, %al
	jz 1f
	call letter
	jmp text
1:	ret

# number: EAX in hexadecimal, and a space.
number:	push %ecx
	push %ebx
	mov %eax, %ebx
	mov $8, %ecx
1:	rol $4, %ebx
	mov %bl, %al
	and $0xf, %al
	add $'0', %al
	cmp $'9', %al
	jbe 2f
	add $('a' - '9' - 1), %al
2:	call letter
	loop 1b
	mov $' ', %al
	call letter
	pop %ebx
	pop %ecx
	ret

# letter: AL, on COM1 and port E9.
letter:	push %edx
	push %eax
	mov $(COM1 + 5), %edx
1:	in %dx, %al
	test $0x20, %al
	jz 1b
	pop %eax
	mov $COM1, %edx
	out %al, %dx
	out %al, $0xe9
	pop %edx
	ret

# What all interrupts come to, with their vector: noted, and ended.
interrupt:
	push %eax
	push %edx
	mov 8(%esp), %eax
	mov log_end, %edx
	mov %al, (%edx)
	incl log_end
	cmp $2, %al
	je 9f
	cmp $0xb0, %al
	je 3f
	cmp $0x20, %al
	jb failure
	cmp $0x38, %al
	je 2f
	cmp $0x81, %al
	jne 8f
	# Others may come in.
	movl $0x00040091, LAPIC + 0x300
	movl $0x00040082, LAPIC + 0x300
	sti
	nop
	cli
	mov LAPIC + 0x140, %eax
	mov log_end, %edx
	mov %al, (%edx)
	incl log_end
	jmp 8f
	# The clock: the second time the cause is taken away.
2:	push %ebx
	mov $0x20, %eax
	call io_read
	mov log_end, %edx
	shr $12, %eax
	mov %al, (%edx)
	incl log_end
	pop %ebx
	cmp $LOG + 3, %edx
	jb 8f
	mov $0x8b, %al
	out %al, $0x70
	mov $0x02, %al
	out %al, $0x71
	mov $0x8c, %al
	out %al, $0x70
	in $0x71, %al
	jmp 8f
3:	mov $0x20, %al
	out %al, $0x20
	jmp 9f
8:	movl $0, LAPIC + 0xb0
9:	pop %edx
	pop %eax
	add $4, %esp
	iret

log_end:
	.long LOG

text_cpu:	.asciz "cpu "
text_registers:	.asciz "registers "
text_ioapic:	.asciz "ioapic "
text_self:	.asciz "self "
text_order:	.asciz "order "
text_priority:	.asciz "priority "
text_then:	.asciz "then "
text_nested:	.asciz "nested "
text_once:	.asciz "timer once "
text_periodic:	.asciz "periodic "
text_pit:	.asciz "8254 "
text_pit_done:	.asciz "five ticks"
text_clock:	.asciz "clock "
text_wire:	.asciz "virtual wire "
text_others:	.asciz "others "
text_cr8:	.asciz "cr8 "
text_mp:	.asciz "mp "
text_acpi:	.asciz "acpi "
text_wrong:	.asciz "wrong\n"

	.balign 8
gdt:	.quad 0
	.quad 0x00cf9a000000ffff
	.quad 0x00cf92000000ffff
	.quad 0x00af9a000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt
idt_pointer:
	.word 256 * 8 - 1
	.long IDT
wide_idt_pointer:
	.word 256 * 16 - 1
	.long TABLES + 0x4000

	.balign 8
entries:
	.set vector, 0
	.rept 256
	.byte 0x6a, vector & 0xff
	jmp interrupt
	.balign 8
	.set vector, vector + 1
	.endr
