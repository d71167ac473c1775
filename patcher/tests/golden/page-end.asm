# The last instruction of the page goes on in the next one.
= ff8
scan
31 c0                | xor eax,eax
75 fc                | jne 0xc0100ff8
b8 78 56 34 12       | mov eax,0x12345678
