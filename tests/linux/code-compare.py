"""Compares the kernel's code as two engines left it in guest memory: code-compare.py RVMM KVM ADDRESS.

The kernel patches itself while it runs: a static branch is a NOP or a jump of the same length, by what happened during that boot (is
the TSC stable, are the random numbers ready?). Such a place may differ; anything else may not. Prints each difference that is no such
place, and ends with 1 if there is one.
"""

import sys

# The NOPs of 32-bit and of 64-bit kernels beside the opcode of a jump of the same length.
FORMS = (
    (bytes.fromhex("3e8d742600"), 0xE9),
    (bytes.fromhex("89f6"), 0xEB),
    (bytes.fromhex("0f1f440000"), 0xE9),
    (bytes.fromhex("6690"), 0xEB),
)


def static_branch(a, b, at):
    """Length of the static branch that is a NOP in one of the two at this offset and a jump within the code in the other, or 0."""
    for nop, opcode in FORMS:
        end = at + len(nop)
        for still, jump in ((a, b), (b, a)):
            if still[at:end] == nop and jump[at] == opcode:
                target = end + int.from_bytes(jump[at + 1 : end], "little", signed=True)
                if 0 <= target < len(a):
                    return len(nop)
    return 0


def main():
    a, b = (open(name, "rb").read() for name in sys.argv[1:3])
    base = int(sys.argv[3], 16)
    if len(a) != len(b) or not a:
        print(f"{len(a)} and {len(b)} bytes of code")
        return 1
    at, branches, others = 0, 0, 0
    while at < len(a):
        if at % 4096 == 0 and a[at : at + 4096] == b[at : at + 4096]:
            at += 4096
        elif a[at] == b[at]:
            at += 1
        elif length := static_branch(a, b, at):
            branches += 1
            at += length
        else:
            others += 1
            print(f"{base + at:x}: {a[at : at + 8].hex(' ')} under rvmm, {b[at : at + 8].hex(' ')} under KVM")
            at += 1
    print(f"{len(a)} bytes of code: {branches} static branches differ, {others} other bytes")
    return 1 if others else 0


sys.exit(main())
