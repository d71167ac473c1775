# Every critical instruction is int3, whatever its prefixes; those that trap by themselves stay.
scan
0f 01 00             | sgdt [eax]
0f 01 08             | sidt [eax]
0f 00 c0             | sldt eax
0f 00 c8             | str eax
0f 01 e0             | smsw eax
0f 02 c1             | lar eax,ecx
0f 03 c1             | lsl eax,ecx
0f 00 e0             | verr ax
0f 00 e8             | verw ax
63 c8                | arpl ax,cx
66 9c                | pushfw
66 9d                | popfw
0f a2                | cpuid
0f 01 f9             | rdtscp
0f 01 d1             | xsetbv
0f 01 ef             | wrpkru
0f 01 ee             | rdpkru
0f 01 c1             | vmcall
0f 09                | wbinvd
8e d0                | mov ss,eax
17                   | pop ss
0f b2 00             | lss eax,[eax]
9a 00 00 00 00 08 00 | call 8:0
ff 18                | call far [eax]
0f 31                | rdtsc
8e d8                | mov ds,eax
1e                   | push ds
07                   | pop es
0f 20 c0             | mov eax,cr0
0f 01 10             | lgdt [eax]
e4 60                | in al,0x60
f3 6f                | rep outsd
cd 80                | int 0x80
0f 34                | sysenter
0f 0b                | ud2
= 80
scan
cf                   | iret
= 82
scan
cb                   | retf
= 84
scan
ea 00 00 00 00 08 00 | jmp 8:0
= 90
scan
cc                   | int3
= 92
scan
0f 0a                | (bad)
