#!/bin/bash
# Makes the Debian guest: Debian 12's linux-image-686, its vmlinuz byte for byte as packaged, and an initramfs with its modules, busybox
# and the self-check. Prints a folder with vmlinuz, initrd.img and release.
. "$(dirname "$0")/lib.sh"
need_root "$@"

SUITE=bookworm
TESTED=linux-image-6.1.0-50-686
MODULES='loop ext4 crc32c_generic'
HERE=$LAB_TOP/tests/guests/debian

key=$(hash_of "$LAB/guest-debian-686.sh" "$HERE/init" "$HERE/selfcheck.c")
dir=$RVMM_CACHE/guests/debian-686-$key
finish() {
    ln -sfn "$(basename "$dir")" "$RVMM_CACHE/guests/debian-686"
    echo "$RVMM_CACHE/guests/debian-686"
    exit
}
[ -e "$dir/.ready" ] && finish
mkdir -p "$RVMM_CACHE/guests"
locked guest-debian-686
[ -e "$dir/.ready" ] && finish

tools=$("$LAB/tools-root.sh")
# A 32-bit Debian 12, so that the self-check is built by the compiler and libc of the guest's own release.
root=$RVMM_CACHE/guest-root-$SUITE
[ -d "$root" ] || ROOT_ARCH=i386 step "install the guest's 32-bit compiler" make_root "$root" gcc,libc6-dev,busybox-static,kmod $SUITE

fetch_kernel() {
    local package
    apt-get "${APT[@]}" -q --error-on=any update
    package=$(apt-cache "${APT[@]}" depends linux-image-686 | sed -n 's/.*Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
    if [ -n "$(apt-cache "${APT[@]}" madison $TESTED)" ]; then package=$TESTED; fi
    rm -rf "$dir"
    mkdir -p "$dir/package"
    cd "$dir"
    apt-get "${APT[@]}" download "$package"
    dpkg-deb -x ./*.deb package
    rm ./*.deb
    echo "$package" >"$dir/package.name"
    echo "${package#linux-image-}" >"$dir/release"
    cp package/boot/vmlinuz-* vmlinuz
}

make_initramfs() {
    local stage=$dir/stage release module file
    release=$(cat "$dir/release")
    mkdir -p "$stage"/{bin,etc,lib/modules/"$release"}
    cp "$HERE/init" "$stage/init"
    cp "$root/bin/busybox" "$stage/bin/busybox"
    in_root "$root" -b "$HERE" -b "$dir" gcc -O2 -Wall -static -o "$stage/bin/selfcheck" "$HERE/selfcheck.c" -lm -pthread
    for module in 8 64; do in_root "$root" -b "$dir" sh -c "$stage/bin/selfcheck pattern $module | sha256sum" >"$stage/etc/pattern-$module"; done
    cp "$dir/release" "$stage/etc/release"
    in_root "$root" -b "$dir" depmod -b "$dir/package" "$release"
    for module in $MODULES; do
        in_root "$root" -b "$dir" modprobe -d "$dir/package" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | sort -u | while read -r file; do
        mkdir -p "$stage/lib/modules/$release/kernel"
        cp "$file" "$stage/lib/modules/$release/kernel/"
    done
    cp "$dir/package/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$stage/lib/modules/$release/"
    in_root "$root" -b "$dir" depmod -b "$stage" "$release"
    in_root "$tools" -b "$dir" sh -euc "cd '$stage'; find . | cpio --quiet -o -H newc -R 0:0 | gzip -n >'$dir/initrd.img'"
    rm -rf "$stage" "$dir/package"
    touch "$dir/.ready"
}
private_apt "$RVMM_CACHE/apt-$SUITE-i386" i386 $SUITE
step "fetch Debian's 32-bit kernel" fetch_kernel
[ "$(cat "$dir/package.name")" = $TESTED ] || say "the tested $TESTED is gone from the package source; using $(cat "$dir/package.name")"
step "make the guest's initramfs" make_initramfs
forget_others guests/debian-686- "$dir"
finish
