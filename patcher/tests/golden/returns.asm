# Returns to programs, as calls of ring 0: to 64-bit code, to compatibility code, and to either by a frame.
bits 64
tactics jump,syscall
scan
5f                      | pop rdi
90                      | nop
90                      | nop
patch
48 0f 07                | o64 sysret
= 100
scan
5f                      | pop rdi
48 83 c4 08             | add rsp,8
patch
0f 07                   | sysret
= 200
scan
5f                      | pop rdi
48 83 c4 08             | add rsp,8
patch
48 cf                   | iretq
