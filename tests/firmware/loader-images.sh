#!/bin/bash
# Puts the boot loaders of Debian 12 on diskettes and CD-ROMs, with the packages' own tools where they have some. Serial is where they speak.
#   loader-images.sh FOLDER       makes grub-floppy.img, grub-iso.img, memtest.img, syslinux-floppy.img, isolinux.img, ipxe.img in it
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

# SYSLINUX and ISOLINUX: their prompt; one label starts the machine again.
mkdir -p "$work/isolinux"
cat >"$work/isolinux/isolinux.cfg" <<'CFG'
SERIAL 0 115200
PROMPT 1
TIMEOUT 0
SAY one two
LABEL again
  COM32 reboot.c32
CFG
cp "$work/isolinux/isolinux.cfg" "$work/syslinux.cfg"

in_root "$root" -b "$out" sh -euc '
    cd "$1"
    modules=/usr/lib/grub/i386-pc
    grub-mkimage -O i386-pc -p /boot/grub -c serial.cfg -o core.img biosdisk fat minicmd echo ls serial terminal normal halt >&2
    cat $modules/boot.img core.img >../grub-floppy.img
    truncate -s 1440K ../grub-floppy.img
    grub-mkrescue -o ../grub-iso.img iso >&2
    cp /boot/memtest86+ia32.bin /boot/memtest86+x64.bin iso
    grub-mkrescue -o ../memtest.img iso >&2

    cp /usr/lib/ipxe/ipxe.iso ../ipxe.img

    modules=/usr/lib/syslinux/modules/bios
    mformat -C -f 1440 -i ../syslinux-floppy.img ::
    mcopy -i ../syslinux-floppy.img syslinux.cfg $modules/reboot.c32 $modules/libcom32.c32 $modules/ldlinux.c32 ::
    syslinux -i ../syslinux-floppy.img >&2
    cp /usr/lib/ISOLINUX/isolinux.bin $modules/reboot.c32 $modules/libcom32.c32 $modules/ldlinux.c32 isolinux
    xorriso -as mkisofs -quiet -o ../isolinux.img -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table isolinux >&2
' loaders "$work"
