#!/bin/bash
# Bad input: each gives one clear error and its own status, and loses nothing. Makes the inputs, runs in-lab.sh in the lab; ends with
# "N passed, N failed".
. "$(dirname "$0")/../lab/lib.sh"
need_root "$@"

here=$(cd "$(dirname "$0")" && pwd)
guest=$("$LAB/guest-debian.sh" debian-686)
lab=$("$LAB/initramfs.sh")
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$LAB_TOP/target}
make -s -C "$LAB_TOP/tests/guests" OUT="$LAB_TOP/build/guests"

cp "$guest/vmlinuz" "$guest/initrd.img" "$here/in-lab.sh" "$stage/"
cp "$LAB_TOP"/build/guests/{triple-fault,bad-jump,bad-stack,garbage,spin,hello}.elf "$stage/"
head -c 100000 "$guest/vmlinuz" >"$stage/truncated"
head -c 300000 /dev/urandom >"$stage/random"
: >"$stage/empty"
# The setup header's magic, and the size of the protected-mode code, no longer true.
cp "$guest/vmlinuz" "$stage/no-magic"
printf 'XXXX' | dd of="$stage/no-magic" bs=1 seek=514 conv=notrunc status=none
cp "$guest/vmlinuz" "$stage/bad-size"
printf '\377\377\377\377' | dd of="$stage/bad-size" bs=1 seek=500 conv=notrunc status=none
# The payload of a bzImage is compressed: its decompressor inside the guest finds out.
cp "$guest/vmlinuz" "$stage/corrupt"
dd if=/dev/zero of="$stage/corrupt" bs=1024 seek=2000 count=64 conv=notrunc status=none
# A 64-bit x86 kernel and an ELF file for AArch64 (machine 183).
cp "$lab/vmlinuz" "$stage/amd64"
cp "$LAB_TOP/build/guests/hello.elf" "$stage/aarch64.elf"
# An ELF file that has lost its multiboot magic.
LC_ALL=C sed 's/\x02\xb0\xad\x1b/XXXX/' "$LAB_TOP/build/guests/hello.elf" >"$stage/no-entry.elf"
printf '\267\000' | dd of="$stage/aarch64.elf" bs=1 seek=18 conv=notrunc status=none

# bsdutils has script, which gives the escape key its terminal.
DIR=$stage PACKAGES=bsdutils CMD='sh in-lab.sh' TIMEOUT=${TIMEOUT:-600} "$LAB/run.sh"
