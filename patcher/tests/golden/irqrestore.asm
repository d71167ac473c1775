# local_irq_restore: flags back from a register. The first is followed by too little code to the end of its function,
# so that the region takes what stands before it; the second has nothing on either side.
scan
8b 45 fc             | mov eax,[ebp-4]
50                   | push eax
patch
9d                   | popf
c3                   | ret
= 40
scan
9d                   | popf
c3                   | ret
= 60
scan
patch
9d                   | popf
89 d8                | mov eax,ebx
89 f1                | mov ecx,esi
c3                   | ret
= 80
# As paravirtualised kernels have it: the branch goes right behind the sti, so the region takes the branch along.
scan
81 e1 00 02 00 00    | and ecx,0x200
74 01                | je 0xc0100089
patch
fb                   | sti
64 ff 0d 00 10 00 00 | dec dword [fs:0x1000]
74 09                | je 0xc010009b
5d                   | pop ebp
c3                   | ret
