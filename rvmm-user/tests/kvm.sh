#!/bin/sh
# The machine of rvmm-user by itself: micro-guests about devices, interrupts and the ends of a run, on /dev/kvm in the lab, must print what
# they print on the bare emulator. A difference here is the machine's and not the engine's.
#   [GUESTS='NAME ...'] [OUT=DIR] kvm.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${OUT:-$top/build/guests-kvm}
guests=${GUESTS:-hello exit-status in-out ins-outs irq-pic irq-nested irq-storm irq-ring3 irq-pending-user sti-shadow timer rdtsc triple-fault reset-keyboard reset-cf9 halt spin}

make -s -C "$top/tests/guests" OUT="$top/build/guests"
rm -rf "$out"
make -s -C "$top" lab-run MODULE=none DIR="$top/build/guests" OUT="$out" TIMEOUT="${TIMEOUT:-600}" \
	CMD="modprobe kvm_amd && rvmm check --engine kvm && sh run-in-lab.sh $guests -- --engine kvm"
# shellcheck disable=SC2086
"$top/tests/guests/compare" "$top/tests/guests/expected" "$out" $guests
