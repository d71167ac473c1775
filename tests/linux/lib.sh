# What the tests of the Debian guest share. Sourced by bash.
# shellcheck shell=bash source=../lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lab/lib.sh"
LINUX=$LAB_TOP/tests/linux

# stage_guest DIR: the guest's vmlinuz and its initrd.img, with our own first process and the module text.ko in it: 'rdinit=/linux-test'.
stage_guest() {
    local guest tools overlay
    guest=$("$LAB/guest-debian-686.sh")
    tools=$("$LAB/tools-root.sh")
    overlay=$("$LINUX/guest.sh")
    cp "$guest/vmlinuz" "$1/"
    cp "$guest/release" "$1/"
    cat "$guest/initrd.img" "$overlay" >"$1/initrd.img"
}
