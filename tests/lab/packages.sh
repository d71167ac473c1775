#!/bin/bash
# Makes a disk image with a small Debian and the packages named as arguments, for lab runs with PACKAGES=. Prints its path.
. "$(dirname "$0")/lib.sh"
need_root "$@"

image=$RVMM_CACHE/packages-$(hash_of "$LAB/packages.sh" "$(printf '%s\n' "$@" | sort)").ext4
[ -e "$image" ] && { echo "$image"; exit; }
tools=$("$LAB/tools-root.sh")
locked packages

make_image() {
    local root=$image.root size
    rm -rf --one-file-system "$root"
    make_root "$root" "$(printf '%s\n' busybox-static "$@" | paste -sd,)" trixie
    rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists
    mkdir -p "$root/usr/local/busybox" "$root/usr/local/bin" "$root/mnt" "$root/lab"
    # Room for what a command writes; a multiple of Bochs' cylinders.
    size=$(($(du -sk "$root" | cut -f1) * 5 / 4 + 200000))
    size=$((size * 1024 / 516096 * 516096))
    in_root "$tools" -b "$RVMM_CACHE" sh -euc "truncate -s $size '$image.part'; mkfs.ext4 -q -F -m 0 -d '$root' '$image.part'"
    rm -rf --one-file-system "$root" "$image.list"
    mv "$image.part" "$image"
}
step "make a disk with $*" make_image "$@"
echo "$image"
