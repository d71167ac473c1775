# SYSEXIT of a 64-bit kernel: to compatibility code there is a block, to 64-bit code (by segments that are never SYSRET's) there is none.
bits 64
tactics jump,syscall
scan
bb 01 02 03 04          | mov ebx,0x4030201
fb                      | sti
patch
0f 35                   | sysexit
= 100
scan
bb 01 02 03 04          | mov ebx,0x4030201
patch
48 0f 35                | o64 sysexit
