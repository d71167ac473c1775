#!/bin/bash
# The same kernel on the same rvmm-user machine and CPUID, once under rvmm and once under hardware-assisted KVM: the two kernel logs may differ
# only where dmesg.allow gives a reason.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$(mktemp -d)}
for engine in rvmm kvm; do
    echo "the guest under $engine"
    # KVM's guest sees the clock of a busy emulator late; it is watched under rvmm, in the test 'debian'.
    ENGINE=$engine CLOCK=0 GUEST_APPEND=dmesg=1 OUT=$out/$engine "$here/../../lab/run-guest.sh" </dev/null >"$out/$engine.log" 2>&1 || {
        tail -n 30 "$out/$engine.log"
        exit 1
    }
done
"$here/compare-dmesg" "$out/rvmm/console" "$out/kvm/console"
