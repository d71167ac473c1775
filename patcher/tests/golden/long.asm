# 64-bit code: RIP-relative neighbours, registers that need REX, and a call whose return address is pushed.
bits 64
scan
patch
fa                      | cli
48 8b 05 00 20 00 00    | mov rax,[rel 0xffffffff81102008]
49 89 c0                | mov r8,rax
eb 00                   | jmp 0xffffffff8110000d
9c                      | pushf
41 58                   | pop r8
81 3d 00 10 00 00 78 56 34 12 | cmp dword [rel 0xffffffff8110101a],0x12345678
c3                      | ret
= 100
scan
patch
49 8c c9                | mov r9,cs
4c 89 c8                | mov rax,r9
patch
41 0f 20 da             | mov r10,cr3
41 ff d3                | call r11
c3                      | ret
= 200
scan
patch
0f 01 f8                | swapgs
48 89 c7                | mov rdi,rax
c3                      | ret
= 300
scan
patch
fb                      | sti
e8 fa 0f 00 00          | call 0xffffffff81101300
c3                      | ret
