# The return of an interrupt handler to the kernel, and one whose frame is not the code's own.
bits 64
scan
5f                      | pop rdi
48 83 c4 08             | add rsp,8
patch
48 cf                   | iretq
= 100
scan
48 83 c4 08             | add rsp,8
patch
cf                      | iret
= 200
scan
41 5b                   | pop r11
58                      | pop rax
patch
9d                      | popf
48 89 c3                | mov rbx,rax
c3                      | ret
