#!/bin/bash
# Makes a Debian guest: a kernel byte for byte as packaged, and an initramfs with its modules, busybox and the self-check. Prints a folder
# with vmlinuz, initrd.img and release.
#   guest-debian.sh debian-686|debian-686-pae|debian-amd64|debian-amd64-cloud|debian-cloud
# The first four are Debian 12's kernels, the last is the lab's own (see build-root.sh).
. "$(dirname "$0")/lib.sh"
need_root "$@"

NAME=${1:-debian-686}
SUITE=bookworm
# META names the newest version, TESTED is taken while the package source has it. MODULES are what the self-check loads: a kernel with
# ext4 built in gets another large module in its place.
case $NAME in
debian-686) ARCH=i386 META=linux-image-686 TESTED=linux-image-6.1.0-50-686 MODULES='loop ext4 crc32c_generic' ;;
debian-686-pae) ARCH=i386 META=linux-image-686-pae TESTED=linux-image-6.1.0-50-686-pae MODULES='loop ext4 crc32c_generic' ;;
debian-amd64) ARCH=amd64 META=linux-image-amd64 TESTED=linux-image-6.1.0-50-amd64 MODULES='loop ext4 crc32c_generic' ;;
debian-amd64-cloud) ARCH=amd64 META=linux-image-cloud-amd64 TESTED=linux-image-6.1.0-50-cloud-amd64 MODULES='loop xfs' ;;
debian-cloud) ARCH=amd64 META='' TESTED='' MODULES='loop xfs' ;;
*) die "GUEST=$NAME: known are debian-686, debian-686-pae, debian-amd64, debian-amd64-cloud, debian-cloud" ;;
esac
HERE=$LAB_TOP/tests/guests/debian

build=
[ -n "$META" ] || build=$("$LAB/build-root.sh")
# A dot before the key, for one guest's name may be the beginning of another's (see forget_others).
kernel=$RVMM_CACHE/guests/kernel.$NAME.$(hash_of "$LAB/guest-debian.sh" "$(basename "$build")")
dir=$RVMM_CACHE/guests/$NAME.$(hash_of "$(basename "$kernel")" "$HERE")
finish() {
    ln -sfn "$(basename "$dir")" "$RVMM_CACHE/guests/$NAME"
    echo "$RVMM_CACHE/guests/$NAME"
    exit
}
[ -e "$dir/.ready" ] && finish
mkdir -p "$RVMM_CACHE/guests"
locked "guest-$NAME"
[ -e "$dir/.ready" ] && finish

tools=$("$LAB/tools-root.sh")
# Debian 12 of both sizes, so that the self-check is built by the compiler and libc of the guests' own release. A 64-bit kernel runs
# programs of both.
compiler_root() {
    local root=$RVMM_CACHE/guest-root-$SUITE-$1
    # An earlier state of the tree had only this one, without the size in its name.
    if [ "$1" = i386 ] && [ ! -d "$root" ] && [ -d "$RVMM_CACHE/guest-root-$SUITE" ]; then root=$RVMM_CACHE/guest-root-$SUITE; fi
    [ -d "$root" ] || ROOT_ARCH=$1 step "install the guests' $1 compiler" make_root "$root" gcc,libc6-dev,busybox-static,kmod $SUITE
    echo "$root"
}

fetch_package() {
    local package
    apt-get "${APT[@]}" -q --error-on=any update
    package=$(apt-cache "${APT[@]}" depends $META | sed -n 's/.*Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
    if [ -n "$(apt-cache "${APT[@]}" madison $TESTED)" ]; then package=$TESTED; fi
    mkdir -p "$kernel/package"
    cd "$kernel"
    apt-get "${APT[@]}" download "$package"
    dpkg-deb -x ./*.deb package
    rm ./*.deb
    echo "$package" >"$kernel/package.name"
    echo "${package#linux-image-}" >"$kernel/release"
    cp package/boot/vmlinuz-* vmlinuz
    in_root "$root" -b "$kernel" depmod -b "$kernel/package" "${package#linux-image-}"
}

# The kernel, and of its modules those wanted with what they need.
make_kernel() {
    local tree release module file
    rm -rf "$kernel"
    mkdir -p "$kernel"
    if [ -n "$build" ]; then
        tree=$build
        cp "$build/.release" "$kernel/release"
        cp "$build/lib/modules/$(cat "$build/.release")/vmlinuz" "$kernel/vmlinuz"
    else
        tree=$kernel/package
        fetch_package
    fi
    release=$(cat "$kernel/release")
    mkdir -p "$kernel/lib/modules/$release/kernel"
    for module in $MODULES; do
        in_root "$root" -b "$tree" modprobe -d "$tree" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | sort -u | while read -r file; do
        case $file in
        *.xz) xz -dc "$file" >"$kernel/lib/modules/$release/kernel/$(basename "$file" .xz)" ;;
        *) cp "$file" "$kernel/lib/modules/$release/kernel/" ;;
        esac
    done
    cp "$tree/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$kernel/lib/modules/$release/"
    in_root "$root" -b "$kernel" depmod -b "$kernel" "$release"
    rm -rf "$kernel/package"
    touch "$kernel/.ready"
}

# build_selfcheck ROOT NAME
build_selfcheck() { in_root "$1" -b "$HERE" -b "$dir" gcc -O2 -Wall -Wextra -Werror -static -o "$dir/stage/bin/$2" "$HERE"/*.c -lm -pthread; }

make_initramfs() {
    local stage=$dir/stage mib
    rm -rf "$dir"
    mkdir -p "$stage"/{bin,etc}
    cp "$kernel/vmlinuz" "$kernel/release" "$dir/"
    cp "$HERE/init" "$stage/init"
    cp "$root/bin/busybox" "$stage/bin/busybox"
    build_selfcheck "$root" selfcheck
    [ $ARCH = i386 ] || build_selfcheck "$root32" selfcheck32
    for mib in 8 64; do in_root "$root" -b "$dir" sh -c "$stage/bin/selfcheck pattern $mib | sha256sum" >"$stage/etc/pattern-$mib"; done
    cp "$kernel/release" "$stage/etc/release"
    echo "$MODULES" >"$stage/etc/modules"
    cp -r "$kernel/lib" "$stage/lib"
    in_root "$tools" -b "$dir" sh -euc "cd '$stage'; find . | cpio --quiet -o -H newc -R 0:0 | gzip -n >'$dir/initrd.img'"
    rm -rf "$stage"
    touch "$dir/.ready"
}

root=$(compiler_root $ARCH)
root32=
[ $ARCH = i386 ] || root32=$(compiler_root i386)
if [ ! -e "$kernel/.ready" ]; then
    [ -n "$build" ] || private_apt "$RVMM_CACHE/apt-$SUITE-$ARCH" $ARCH $SUITE
    step "fetch the kernel of $NAME" make_kernel
    [ -n "$build" ] || [ "$(cat "$kernel/package.name")" = $TESTED ] ||
        say "the tested $TESTED is gone from the package source; using $(cat "$kernel/package.name")"
    forget_others "guests/kernel.$NAME." "$kernel"
fi
step "make the initramfs of $NAME" make_initramfs
forget_others "guests/$NAME." "$dir"
finish
