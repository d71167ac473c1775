# What the tests of the Debian guest share. Sourced by bash.
# shellcheck shell=bash source=../lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lab/lib.sh"
LINUX=$LAB_TOP/tests/linux
GUEST=${GUEST:-debian-686} MODEL=${MODEL:-$(guest_model "${GUEST:-debian-686}")}
export GUEST MODEL

# stage_guest DIR: the guest's vmlinuz and its initrd.img, with what the tests here add to it: a first process, by rdinit=/linux-test.
stage_guest() {
    local guest overlay
    guest=$("$LAB/guest-debian.sh" "$GUEST")
    overlay=$("$LINUX/guest.sh" "$GUEST")
    cp "$guest/vmlinuz" "$1/"
    cat "$guest/initrd.img" "$overlay" >"$1/initrd.img"
}
