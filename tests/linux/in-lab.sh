#!/bin/busybox sh
# In the lab: boots the guest of 'two-engines' under each of ENGINES, reads its code from outside, ends it, and leaves in /mnt/out/ENGINE:
# console, messages (of rvmm), stats, and of the code its bytes as seen from outside (code), their hash (outside), and the hashes that
# the guest gave (hashes). MODEL and CPU are the model and the CPU of the run, SECONDS_EACH what a guest may take, OPTIONS are for rvmm run.
memory=256

# The guest's RAM from its byte c0000 on is one mapping of the process, which may have grown together with a neighbour: the places
# where it can begin.
ram() {
    size=$((memory * 1048576 - 0xc0000))
    while read -r range permissions _; do
        case $permissions in rw*) ;; *) continue ;; esac
        first=$((0x${range%-*})) last=$((0x${range#*-}))
        [ $((last - first)) -ge $size ] && echo "$first $((last - size))"
    done <"/proc/$1/maps"
}

run() {
    engine=$1 out=/mnt/out/$1
    mkdir -p "$out"
    # shellcheck disable=SC2086
    rvmm run --engine "$engine" --model "$MODEL" --cpu "$CPU" --kernel vmlinuz --initrd initrd.img --memory $memory --timeout "$SECONDS_EACH" --stats --stats-file "$out/stats" $OPTIONS \
        --append 'console=ttyS0 tsc=reliable nokaslr rdinit=/linux-test' </dev/null >"$out/console" 2>"$out/messages" &
    pid=$!
    until grep -qa '^code ready' "$out/console"; do
        if [ ! -d /proc/$pid ]; then
            wait $pid
            echo "$engine: ended with status $? before its code was read; the end of its console and what rvmm said:"
            tail -n 15 "$out/console" "$out/messages"
            return 1
        fi
        sleep 1
    done
    tr -d '\r' <"$out/console" >"$out/tidy"
    sed -n 's/^code \(executed\|alias\|mapped\) //p' "$out/tidy" >"$out/hashes"
    bytes=$(sed -n 's/^text: \([0-9]*\) bytes at .*/\1/p' "$out/tidy")
    physical=$((0x$(sed -n 's/^text: .* physical \([0-9a-f]*\),.*/\1/p' "$out/tidy")))
    for first in $(ram $pid); do
        dd if=/proc/$pid/mem of="$out/code" bs=4096 skip=$(((first + physical - 0xc0000) / 4096)) count=$((bytes / 4096)) 2>/dev/null
        sha256sum <"$out/code" | cut -d' ' -f1 >"$out/outside"
        ! grep -qFx -f "$out/outside" "$out/hashes" || break
    done
    rm "$out/tidy"
    kill -INT $pid
    wait $pid
    status=$?
    echo "$engine: $(grep -a 'userland reached' "$out/console" | tr -d '\r'); ended by SIGINT with status $status"
    [ $status = 130 ]
}

modprobe kvm-amd 2>/dev/null
result=0
for one in $ENGINES; do run "$one" || result=1; done
exit $result
