#!/bin/bash
# Makes a CD-ROM with which GRUB starts Debian 12's installer (kernel and initrd of debian-installer-12-netboot-amd64), with its text front end on
# COM1. Prints the image's path.
. "$(dirname "$0")/../lab/lib.sh"
need_root "$@"

PACKAGE=debian-installer-12-netboot-amd64

image=$RVMM_CACHE/installer-$(hash_of "$LAB_TOP/tests/firmware/installer-image.sh").iso
[ -e "$image" ] && { echo "$image"; exit; }
locked installer
[ -e "$image" ] && { echo "$image"; exit; }
root=$("$LAB_TOP/tests/firmware/loaders-root.sh")
work=$(mktemp -d "$RVMM_CACHE/run/XXXXXX")
trap 'rm -rf "$work"' EXIT

fetch() {
    cd "$work"
    apt-get "${APT[@]}" -q --error-on=any update
    apt-get "${APT[@]}" download $PACKAGE
    dpkg-deb -x ./*.deb package
    mkdir -p iso/boot/grub
    mv package/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/{linux,initrd.gz} iso/
    cat >iso/boot/grub/grub.cfg <<'CFG'
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry Installer {
    linux /linux console=ttyS0,115200 quiet DEBIAN_FRONTEND=text
    initrd /initrd.gz
}
CFG
    in_root "$root" -b "$work" grub-mkrescue -o "$work/image" "$work/iso"
    mv image "$image"
}

private_apt "$work/apt" amd64 bookworm
step "put Debian 12's installer on a CD-ROM" fetch
forget_others installer- "$image"
echo "$image"
