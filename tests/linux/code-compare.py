"""Compares the kernel's code as two engines left it in guest memory: code-compare.py RVMM KVM ADDRESS.

The kernel patches itself while it runs: a static branch is a five-byte NOP or a jump, by what happened during that boot (is the TSC
stable?). Such a place may differ; anything else may not. Prints each difference and ends with 1 if one is not such a place.
"""

import sys

# The five-byte NOP of 32-bit kernels.
NOP = bytes.fromhex("3e8d742600")


def jump_target(code, at):
    """Where the jump at this offset leads, or None if there is none (a two-byte jump is followed by a three-byte NOP)."""
    if code[at] == 0xE9:
        return at + 5 + int.from_bytes(code[at + 1 : at + 5], "little", signed=True)
    if code[at] == 0xEB:
        return at + 2 + int.from_bytes(code[at + 1 : at + 2], "little", signed=True)
    return None


def is_branch(a, b, at):
    """One of the two has the NOP here and the other a jump within the kernel's code."""
    for nop, jump in ((a, b), (b, a)):
        target = jump_target(jump, at)
        if nop[at : at + 5] == NOP and target is not None and 0 <= target < len(a):
            return True
    return False


def main():
    a, b = (open(name, "rb").read() for name in sys.argv[1:3])
    base = int(sys.argv[3], 16)
    if len(a) != len(b) or not a:
        print(f"{len(a)} and {len(b)} bytes of code")
        return 1
    at, branches, others = 0, 0, 0
    while at < len(a):
        if a[at : at + 4096] == b[at : at + 4096]:
            at += 4096
            continue
        end = min(at + 4096, len(a))
        while at < end:
            if a[at] == b[at]:
                at += 1
                continue
            if is_branch(a, b, at):
                branches += 1
            else:
                others += 1
                print(f"{base + at:x}: {a[at:at + 8].hex(' ')} under rvmm, {b[at:at + 8].hex(' ')} under KVM")
            at += 5
    print(f"{len(a)} bytes of code: {branches} static branches differ, {others} other places")
    return 1 if others else 0


sys.exit(main())
