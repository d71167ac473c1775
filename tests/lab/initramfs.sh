#!/bin/bash
# The lab's own part of its initramfs: busybox, /init and the kernel modules that the lab may need. Prints a folder with vmlinuz and lab.cpio.
. "$(dirname "$0")/lib.sh"
need_root "$@"

# The disks of both emulators, KVM for comparisons, and small things that commands may want.
MODULES='virtio_blk ata_piix ata_generic sd_mod kvm kvm-amd kvm-intel msr cpuid loop overlay isofs sr_mod squashfs dm_mod'

build=$("$LAB/build-root.sh")
tools=$("$LAB/tools-root.sh")
dir=$RVMM_CACHE/lab-$(hash_of "$LAB/initramfs.sh" "$LAB/init" "$(basename "$build")" "$(basename "$tools")")
[ -e "$dir/.ready" ] && { echo "$dir"; exit; }
locked lab
[ -e "$dir/.ready" ] && { echo "$dir"; exit; }

make_it() {
    local release stage=$dir/stage
    release=$(cat "$build/.release")
    rm -rf "$dir"
    mkdir -p "$stage"/{bin,lab,mnt/dir,lib/modules/"$release"}
    cp "$build/lib/modules/$release/vmlinuz" "$dir/vmlinuz"
    cp "$LAB/init" "$stage/init"
    cp "$tools/bin/busybox" "$stage/bin/busybox"
    for module in $MODULES; do
        # A module that is built in, or that this kernel does not have, is not listed.
        in_root "$build" modprobe -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
    done | sort -u | while read -r file; do
        mkdir -p "$stage$(dirname "$file")"
        xz -dc "$build$file" >"$stage${file%.xz}"
    done
    cp "$build/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$stage/lib/modules/$release/"
    in_root "$tools" -b "$dir" depmod -b "$stage" "$release"
    in_root "$tools" -b "$dir" sh -euc "cd '$stage'; find . | cpio --quiet -o -H newc -R 0:0 >'$dir/lab.cpio'"
    rm -rf "$stage"
    touch "$dir/.ready"
}
step "make the lab's initramfs" make_it
forget_others lab- "$dir"
echo "$dir"
