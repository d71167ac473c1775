# A jump into the middle of an instruction, to where another one begins that a site overlaps. Known boundaries are exact, so
# both the outer instruction and the one in its middle trap.
scan
75 01                | jne 0xc0100003
b0 0f                | mov al,0xf
9c                   | pushf
c3                   | ret
