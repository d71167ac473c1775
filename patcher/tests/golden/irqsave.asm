# local_irq_save as Linux compiles it, natively patched: flags into a register, then interrupts off.
scan
55                   | push ebp
9c                   | pushf
58                   | pop eax
patch
fa                   | cli
8d b6 00 00 00 00    | lea esi,[esi]
5d                   | pop ebp
c3                   | ret
= 40
scan
patch
9c                   | pushf
8b 15 10 20 30 c0    | mov edx,[0xc0302010]
c3                   | ret
