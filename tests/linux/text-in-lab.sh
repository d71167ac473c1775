#!/bin/busybox sh
# In the lab: runs the guest of the test 'text' under each engine named, reads its code from outside, and leaves in /mnt/out/ENGINE the
# console, the guest's three hashes (hashes), the fourth (outside) and the code itself (code).
memory=256

# The guest's RAM from its byte c0000 on is one mapping of the process, which may have grown together with a neighbour: every place
# where it can begin.
ram() {
    size=$((memory * 1048576 - 0xc0000))
    while read -r range permissions _; do
        case $permissions in rw*) ;; *) continue ;; esac
        first=$((0x${range%-*})) last=$((0x${range#*-}))
        [ $((last - first)) -ge $size ] && echo "$first $((last - size))"
    done <"/proc/$1/maps"
}

# run ENGINE SECONDS OPTIONS...
run() {
    out=/mnt/out/$1
    seconds=$2
    mkdir -p "$out"
    engine=$1
    shift 2
    rvmm run --engine "$engine" --kernel vmlinuz --initrd initrd.img --memory $memory --timeout "$seconds" --stats --stats-file "$out/stats" "$@" \
        --append 'console=ttyS0 nokaslr rdinit=/linux-test check=text' </dev/null >"$out/console" 2>"$out/messages" &
    pid=$!
    until grep -q '^text ready' "$out/console"; do
        if [ ! -d /proc/$pid ]; then
            wait $pid
            echo "$engine: ended with status $? before the code was read: $(tail -n 1 "$out/messages")"
            return 1
        fi
        sleep 1
    done
    tr -d '\r' <"$out/console" >"$out/tidy"
    sed -n 's/^text \(executed\|alias\|mapped\) //p' "$out/tidy" >"$out/hashes"
    bytes=$(sed -n 's/^text: \([0-9]*\) bytes at .*/\1/p' "$out/tidy")
    physical=$((0x$(sed -n 's/^text: .* physical \([0-9a-f]*\),.*/\1/p' "$out/tidy")))
    for first in $(ram $pid); do
        dd if=/proc/$pid/mem of="$out/code" bs=4096 skip=$(((first + physical - 0xc0000) / 4096)) count=$((bytes / 4096)) 2>/dev/null
        sha256sum <"$out/code" | cut -d' ' -f1 >"$out/outside"
        ! grep -qFx -f "$out/outside" "$out/hashes" || break
    done
    kill -INT $pid
    wait $pid
    echo "$engine: $bytes bytes of code, outside $(cat "$out/outside"), inside $(sort -u "$out/hashes" | tr '\n' ' ')"
}

modprobe kvm-amd 2>/dev/null
result=0
for engine in $ENGINES; do
    run "$engine" "$SECONDS_EACH" $OPTIONS || result=1
done
exit $result
