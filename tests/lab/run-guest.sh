#!/bin/bash
# Boots a guest under rvmm in the lab: with a terminal its shell, without one its self-check, whose status is the run's.
# With DISK=, CDROM=, FLOPPY= or KERNEL= it is run-image.sh's affair.
# GUEST=debian-686|debian-686-pae|debian-amd64|debian-amd64-cloud|debian-cloud MODEL=0/1/3|0/3/3 ENGINE=rvmm|kvm
# CLOCK=60 (seconds that the guest's clock is watched) SHARE=1 (N: one N-th of the self-check's fork+exec and page faults) RUN_ARGS='more of rvmm run' GUEST_APPEND='more for the guest kernel'.
. "$(dirname "$0")/lib.sh"
need_root "$@"
[ -z "${DISK:-}${CDROM:-}${FLOPPY:-}${KERNEL:-}" ] || exec "$LAB/run-image.sh"
number_in SHARE 1
number_in CLOCK 0

: "${GUEST:=debian-686}" "${ENGINE:=rvmm}" "${CLOCK:=60}" "${SHARE:=1}" "${RUN_ARGS:=}" "${GUEST_APPEND:=}" "${OUT:=}"
export TIMEOUT=${TIMEOUT:-1500} MEM=${MEM:-1024} OUT
# A 64-bit kernel has no other model; a 32-bit one runs in ring 1 unless told otherwise.
: "${MODEL:=$(guest_model "$GUEST")}"
case $MODEL in 0/1/3 | 0/3/3) ;; *) die "MODEL=$MODEL: 0/1/3 or 0/3/3" ;; esac
case ${ENGINE:-rvmm} in rvmm | kvm) ;; *) die "ENGINE=$ENGINE: rvmm or kvm" ;; esac
# The guest's CPU is one of Intel's (guest_cpu); system calls of 64-bit programs are carried out without an exit where the host's is, too.
case $GUEST,$ENGINE in
*686*,* | *,kvm) ;;
*) export CPU=${CPU:-max,-fsrm,vendor=GenuineIntel} ;;
esac
dir=$("$LAB/guest-debian.sh" "$GUEST")

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp "$dir/vmlinuz" "$dir/initrd.img" "$stage/"
cp "$LAB/watch-clock.sh" "$stage/"
rvmm="rvmm run --engine $ENGINE --model $MODEL --cpu $(guest_cpu "$GUEST" "$ENGINE") --kernel /mnt/dir/vmlinuz --initrd /mnt/dir/initrd.img --memory 256 $RUN_ARGS"
export DIR=$stage
# The guest's TSC is the host's, at the rate that CPUID tells. Without the word its kernel trusts its timer ticks more, of which
# an emulated, busy lab may lose some, and then reads the 8254 by port for every look at the clock.
# A panic ends the run instead of waiting for its time limit.
arguments='console=ttyS0 tsc=reliable panic=-1'

if [ -t 0 ] && [ -t 1 ]; then
    say "Ctrl-A x ends the guest, Ctrl-] x the whole lab"
    export INTERACTIVE=1 CMD="$rvmm --append '$arguments $GUEST_APPEND'"
    "$LAB/run.sh"
else
    export CMD="
        modprobe kvm-amd 2>/dev/null
        { $rvmm --append '$arguments selfcheck=$CLOCK share=$SHARE $GUEST_APPEND' --stats; echo \$? >/tmp/status; } 2>/mnt/out/rvmm.err | sh /mnt/dir/watch-clock.sh | tee /mnt/out/console
        sed 's/^/rvmm: /' /mnt/out/rvmm.err
        [ \"\$(cat /tmp/status)\" = 0 ] || exit \"\$(cat /tmp/status)\"
        grep -q 'self-check passed' /mnt/out/console && ! grep 'FAILED' /mnt/out/console"
    "$LAB/run.sh"
fi
