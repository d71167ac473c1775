# A critical opcode in an instruction's middle: the call's displacement holds 9d (popf), the immediate 0f a2 (cpuid).
scan
patch
e8 9d 00 00 00       | call 0xc01000a2
b8 0f a2 00 00       | mov eax,0xa20f
c3                   | ret
= a2
c3                   | ret
