#!/bin/busybox sh
# In the lab: boots the guest of the test 'dmesg-compare' under each of ENGINES; the consoles are left in /mnt/out/ENGINE.
modprobe kvm-amd 2>/dev/null
for engine in $ENGINES; do
    mkdir -p "/mnt/out/$engine"
    rvmm run --engine "$engine" --kernel vmlinuz --initrd initrd.img --memory 256 --timeout "$SECONDS_EACH" --stats --stats-file "/mnt/out/$engine/stats" $OPTIONS \
        --append 'console=ttyS0 rdinit=/linux-test check=dmesg' </dev/null >"/mnt/out/$engine/console" 2>"/mnt/out/$engine/messages"
    status=$?
    echo "$engine: status $status, $(grep -a 'userland reached' "/mnt/out/$engine/console" | tr -d '\r')"
    [ $status = 0 ] || { tail -n 20 "/mnt/out/$engine/console"; cat "/mnt/out/$engine/messages"; exit 1; }
done
