// The 64-bit image as the one segment of a multiboot ELF32 file, whose entry (lib64/start.S) is 16 bytes behind its start.
	.text
	.globl _start
	.incbin IMAGE
	.set _start, .text + 16
