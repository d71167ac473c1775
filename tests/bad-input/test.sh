#!/bin/bash
# Bad input: each gives one clear error and its own status, and loses nothing. Makes the inputs, runs in-lab.sh in the lab; ends with
# "N passed, N failed".
#   test.sh [disks]       disks: bad disk images instead of bad kernels, which firmware starts from (disks-in-lab.sh)
. "$(dirname "$0")/../lab/lib.sh"
need_root "$@"

here=$(cd "$(dirname "$0")" && pwd)
guest=$("$LAB/guest-debian.sh" debian-686)
lab=$("$LAB/initramfs.sh")
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$LAB_TOP/target}
make -s -C "$LAB_TOP/tests/guests" OUT="$LAB_TOP/build/guests"

cp "$guest/vmlinuz" "$guest/initrd.img" "$here"/{in-lab,disks-in-lab,expect}.sh "$stage/"
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

# A multiboot header with a flag that nobody knows (bit 9; the checksum is made right), one whose checksum is wrong, and one that is too far behind.
LC_ALL=C sed 's/\x02\xb0\xad\x1b\(.\)\(...\)\(.\)/\x02\xb0\xad\x1b\1\2X/' "$LAB_TOP/build/guests/hello.elf" >"$stage/bad-checksum.elf"
printf '\002\260\255\033\000\002\000\000\376\115\122\344' | cat - <(head -c 4096 /dev/zero) >"$stage/unknown-flag"
{ head -c 8192 /dev/zero; printf '\002\260\255\033\000\000\000\000\376\117\122\344'; } >"$stage/far-header"
printf '\326\120\122\350\000\000\000\000\040\000\000\000\012\257\255\027\115\000\000\000\010\000\000\000\000\000\000\000\010\000\000\000' | cat - <(head -c 4096 /dev/zero) >"$stage/unknown-tag"

# Firmware, a boot program that reads and writes as it is told, and images that are none: no signature, a qcow2 header alone, one with a table
# beyond the end of the file.
cp "$("$LAB/tools-root.sh")"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$stage/"
as --32 -I "$LAB_TOP/tests/firmware" -o "$stage/disk.o" "$here/disk.S"
ld -m elf_i386 -Ttext=0x7c00 --oformat binary -o "$stage/disk.img" "$stage/disk.o"
truncate -s 1M "$stage/disk.img"
truncate -s 1M "$stage/no-signature.img"
printf 'QFI\373\000\000\000\003' >"$stage/short.qcow2"
{ printf 'QFI\373\0\0\0\002'; head -c 12 /dev/zero; printf '\0\0\0\020'; printf '\0\0\0\0\0\020\0\0'; printf '\0\0\0\0\0\0\0\001'; printf '\0\0\0\0\0\377\0\0'
    printf '\0\0\0\0\0\001\0\0\0\0\0\001'; head -c 12 /dev/zero; } >"$stage/truncated.qcow2"

# bsdutils has script, which gives the escape key its terminal.
case ${1:-} in
disks) export PACKAGES='bsdutils dmsetup' CMD='sh disks-in-lab.sh' TIMEOUT=${TIMEOUT:-2400} ;;
*) export PACKAGES=bsdutils CMD='sh in-lab.sh' TIMEOUT=${TIMEOUT:-600} ;;
esac
DIR=$stage "$LAB/run.sh"
