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
