#!/bin/bash
# Makes a disk with Debian 12 from Debian's packages, as an installation would leave it: GRUB before and in the one partition, ext4, the cloud
# kernel with the initramfs of its own making, systemd, a login on COM1 (root, password rvmm). Prints the image's path.
. "$(dirname "$0")/../lab/lib.sh"
need_root "$@"

PACKAGES=systemd-sysv,udev,linux-image-cloud-amd64,grub-pc-bin,grub-common,e2fsprogs,login,passwd,util-linux
UUID=7276766d-0004-4000-8000-000000000001
MIB=640

image=$RVMM_CACHE/disk-$(hash_of "$LAB_TOP/tests/firmware/debian-disk-image.sh").img
[ -e "$image" ] && { echo "$image"; exit; }
locked disk
[ -e "$image" ] && { echo "$image"; exit; }
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$RVMM_CACHE/run/XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root

configure() {
    local release
    release=$(ls "$root/lib/modules")
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    echo rvmm >"$root/etc/hostname"
    echo '127.0.0.1 localhost rvmm' >"$root/etc/hosts"
    echo "UUID=$UUID / ext4 errors=remount-ro 0 1" >"$root/etc/fstab"
    in_root "$root" sh -euc 'echo root:rvmm | chpasswd; rm -f /etc/machine-id; systemd-machine-id-setup'
    # A busy emulator in a busy emulator takes longer than systemd would wait for services and devices, or between signs of life.
    mkdir -p "$root"/etc/systemd/{system.conf.d,system/service.d}
    printf '[Manager]\nDefaultTimeoutStartSec=1h\nDefaultTimeoutStopSec=1h\nDefaultDeviceTimeoutSec=1h\n' >"$root/etc/systemd/system.conf.d/slow.conf"
    printf '[Service]\nWatchdogSec=0\n' >"$root/etc/systemd/system/service.d/slow.conf"
    # What grub-install and update-grub leave, without asking the host's devices what they are.
    mkdir -p "$root/boot/grub/i386-pc"
    cp "$root"/usr/lib/grub/i386-pc/*.{mod,lst} "$root/boot/grub/i386-pc/"
    in_root "$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/grub/i386-pc/core.img biosdisk part_msdos ext2
    cp "$root/usr/lib/grub/i386-pc/boot.img" "$root/boot/grub/i386-pc/"
    cat >"$root/boot/grub/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry Debian {
    insmod part_msdos
    insmod ext2
    search --no-floppy --fs-uuid --set=root $UUID
    echo Loading Linux
    linux /boot/vmlinuz-$release root=UUID=$UUID ro console=ttyS0,115200 quiet
    initrd /boot/initrd.img-$release
}
CFG
}

# bytes32 NUMBER: as four bytes, for printf.
bytes32() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }

# The partition begins at 1 MiB; GRUB's first sector, without its place for the partition table, and its core come before.
put_on_disk() {
    local grub=$root/boot/grub/i386-pc
    [ "$(stat -c %s "$grub/core.img")" -lt $((2047 * 512)) ]
    truncate -s $((MIB - 1))M "$work/partition"
    # Not the two features that GRUB 2.06 does not know.
    in_root "$tools" -b "$work" mke2fs -q -t ext4 -O ^metadata_csum_seed,^orphan_file -U $UUID -d "$root" "$work/partition"
    truncate -s ${MIB}M "$work/disk"
    dd if="$grub/boot.img" of="$work/disk" bs=440 count=1 conv=notrunc status=none
    printf '\x80\xfe\xff\xff\x83\xfe\xff\xff'"$(bytes32 2048)$(bytes32 $(((MIB - 1) * 2048)))" | dd of="$work/disk" bs=1 seek=446 conv=notrunc status=none
    printf '\x55\xaa' | dd of="$work/disk" bs=1 seek=510 conv=notrunc status=none
    dd if="$grub/core.img" of="$work/disk" bs=512 seek=1 conv=notrunc status=none
    dd if="$work/partition" of="$work/disk" bs=1M seek=1 conv=notrunc,sparse status=none
    mv "$work/disk" "$image"
}

step "install Debian 12 for a disk" make_root "$root" $PACKAGES bookworm
step "configure it" configure
step "put it on a disk" put_on_disk
forget_others disk- "$image"
echo "$image"
