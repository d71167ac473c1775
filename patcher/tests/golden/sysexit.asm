# SYSEXIT of a 32-bit kernel, right behind the STI that opens interrupts in the program.
tactics jump,syscall
scan
bb 01 02 03 04       | mov ebx,0x4030201
fb                   | sti
patch
0f 35                | sysexit
