#!/bin/bash
# Makes what the tests here add to a Debian guest's initramfs: their first process and a kernel module, built with Debian 12's compiler
# against Debian's headers of the guest's kernel. Prints the archive's path.
#   guest.sh GUEST
. "$(dirname "$0")/../lab/lib.sh"
need_root "$@"

SUITE=bookworm
here=$LAB_TOP/tests/linux
guest=${1:-debian-686}
release=$(cat "$("$LAB/guest-debian.sh" "$guest")/release")
# The lab's own kernel has its headers, and their compiler, in the build root.
case $guest in
*686*) arch=i386 root=$RVMM_CACHE/guest-headers-$release ;;
debian-cloud) arch=amd64 root=$("$LAB/build-root.sh") ;;
*) arch=amd64 root=$RVMM_CACHE/guest-headers-$release ;;
esac
key=$(hash_of "$here/guest.sh" "$here/init" "$here/text" "$release")
archive=$RVMM_CACHE/guests/linux-test.$guest.$key.cpio.gz
[ ! -e "$archive" ] || { echo "$archive"; exit; }
locked linux-test

[ -d "$root" ] || ROOT_ARCH=$arch step "install the headers of the guest's kernel" make_root "$root" "gcc,make,libc6-dev,linux-headers-$release" $SUITE

# The folder of the guest's own compiler is made with the guest.
compiler=$RVMM_CACHE/guest-root-$SUITE-$arch
if [ ! -d "$compiler" ]; then compiler=$RVMM_CACHE/guest-root-$SUITE; fi

build() {
    local work=$archive.work
    rm -rf "$work"
    mkdir -p "$work/stage"
    cp -r "$here/text" "$work/text"
    in_root "$root" -b "$work" sh -euc "
        make -C /lib/modules/$release/build M=$work/text modules
        strip --strip-debug $work/text/text.ko"
    in_root "$compiler" -b "$work" sh -euc "
        gcc -O2 -Wall -Werror -static -o $work/stage/mapped $work/text/mapped.c"
    cp "$work/text/text.ko" "$work/stage/text.ko"
    cp "$here/init" "$work/stage/linux-test"
    chmod 755 "$work/stage/linux-test"
    in_root "$("$LAB/tools-root.sh")" -b "$work" sh -euc "cd $work/stage; find . | cpio --quiet -o -H newc -R 0:0 | gzip -n >$work/archive"
    mv "$work/archive" "$archive"
    rm -rf "$work"
}
rm -f "$RVMM_CACHE"/guests/linux-test."$guest".*.cpio.gz
step "build the tests' part of the guest" build
echo "$archive"
