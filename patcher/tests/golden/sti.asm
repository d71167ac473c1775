# The idle loop: the interrupt shadow of sti covers hlt. hlt traps by itself wherever it runs.
scan
patch
fb                   | sti
f4                   | hlt
83 c4 10             | add esp,0x10
c3                   | ret
