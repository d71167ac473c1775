#!/bin/bash
# Makes a root of Debian 12 with the boot loaders that are tested, and the tools that put them on disks. Prints its path.
. "$(dirname "$0")/../lab/lib.sh"
need_root "$@"

LOADERS=grub-pc-bin,grub-common,syslinux,syslinux-common,isolinux,ipxe,memtest86+,xorriso,mtools

root=$RVMM_CACHE/loaders-$(hash_of "$LOADERS")
[ -e "$root/.ready" ] && { echo "$root"; exit; }
locked loaders
[ -e "$root/.ready" ] && { echo "$root"; exit; }

install() {
    rm -rf --one-file-system "$root"
    make_root "$root" "$LOADERS" bookworm
    rm -rf "$root"/var/cache/apt/archives/*.deb
    touch "$root/.ready"
}
step "install the boot loaders" install
forget_others loaders- "$root"
echo "$root"
