# CS and SS read as the guest loaded them; the memory form and DS stay as they are.
scan
patch
8c c8                | mov eax,cs
89 c3                | mov ebx,eax
66 8c d1             | mov cx,ss
83 e0 03             | and eax,3
patch
0e                   | push cs
68 00 10 00 00       | push 0x1000
8c d8                | mov eax,ds
patch
8c 4c 24 04          | mov [esp+4],cs
c3                   | ret
