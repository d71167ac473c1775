#!/bin/bash
# Puts the boot loaders of Debian 12 on diskettes and CD-ROMs, with the packages' own tools where they have some. Serial is where they speak.
#   loaders.sh FOLDER
. "$(dirname "$0")/../lab/lib.sh"
need_root "$@"
out=$(realpath "$1")
root=$("$LAB_TOP/tests/firmware/loaders-root.sh")
work=$(mktemp -d "$out/XXXXXX")
trap 'rm -rf "$work"' EXIT

# GRUB: what its core executes first on the diskette, and what grub-mkrescue's core finds on the CD-ROM, end at the prompt.
mkdir -p "$work/iso/boot/grub"
cat >"$work/serial.cfg" <<'CFG'
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
CFG
cat "$work/serial.cfg" >"$work/iso/boot/grub/grub.cfg"
printf 'set timeout=-1\n' >>"$work/iso/boot/grub/grub.cfg"
printf 'rvmm\n' >"$work/iso/hello"
in_root "$root" -b "$out" sh -euc '
    cd "$1"
    modules=/usr/lib/grub/i386-pc
    grub-mkimage -O i386-pc -p /boot/grub -c serial.cfg -o core.img biosdisk fat minicmd echo ls serial terminal normal halt >&2
    cat $modules/boot.img core.img >../grub-floppy.img
    truncate -s 1440K ../grub-floppy.img
    grub-mkrescue -o ../grub.iso iso >&2
' loaders "$work"
