# Neighbours that know where they are: branches of every kind move into the block and still lead where they led.
scan
patch
fa                   | cli
74 7d                | je 0xc0100080
e3 7b                | jecxz 0xc0100080
c3                   | ret
= 20
scan
patch
fa                   | cli
e2 5d                | loop 0xc0100080
67 e3 5a             | jcxz 0xc0100080
c3                   | ret
= 40
scan
patch
fa                   | cli
e8 3a 00 00 00       | call 0xc0100080
c3                   | ret
= 50
scan
patch
fa                   | cli
8b 10                | mov edx,[eax]
ff d2                | call edx
c3                   | ret
= 60
scan
patch
fa                   | cli
89 d8                | mov eax,ebx
ff 52 04             | call dword [edx+4]
c3                   | ret
= 70
scan
patch
fa                   | cli
89 d8                | mov eax,ebx
eb fb                | jmp 0xc0100070
= 80
c3                   | ret
= 90
scan
patch
fa                   | cli
40                   | inc eax
75 fd                | jne 0xc0100091
89 d8                | mov eax,ebx
c3                   | ret
