#!/bin/bash
# Makes the tools root: Debian 13 with the emulators and image tools, so that the host needs none of its own and every host uses the same
# versions. Prints its path.
. "$(dirname "$0")/lib.sh"
need_root "$@"

TOOLS=qemu-system-x86,seabios,bochs,bochsbios,vgabios,bochs-term,grub-pc-bin,grub-common,xorriso,mtools,busybox-static,cpio,e2fsprogs,kmod,zstd,bsdutils,python3-minimal

key=$(hash_of "$LAB/tools-root.sh")
root=$RVMM_CACHE/tools-$key
[ -e "$root/.ready" ] && { echo "$root"; exit; }
locked tools
[ -e "$root/.ready" ] && { echo "$root"; exit; }

install() {
    rm -rf --one-file-system "$root"
    make_root "$root" "$TOOLS" trixie
    rm -rf "$root"/var/cache/apt/archives/*.deb
    touch "$root/.ready"
}
step "install the emulators and image tools" install
forget_others tools- "$root"
echo "$root"
