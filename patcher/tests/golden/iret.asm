# The end of an interrupt's entry code: the region takes what stands in front of the iret along.
scan
0f a1                | pop fs
83 c4 04             | add esp,4
patch
cf                   | iret
= 40
scan
1f                   | pop ds
61                   | popa
83 c4 08             | add esp,8
patch
cf                   | iret
= 80
# Filler behind it will do as well.
scan
58                   | pop eax
patch
cf                   | iret
8d 74 26 00          | lea esi,[esi]
= c0
# Its boundary would be the fifth byte of the jump, which does not trap at any distance to this patch memory.
scan
61                   | popa
83 c4 08             | add esp,8
patch
cf                   | iret
= 100
# A 16-bit frame is the interpreter's.
scan
bb 01 00 00 00       | mov ebx,1
patch
66 cf                | iretw
