#!/bin/busybox sh
# In the lab: boots each of GUESTS (folders here, with vmlinuz, initrd.img and options) to its self-check, all at once. Leaves in
# /mnt/out/N-GUEST: console, messages (of rvmm), stats, status; in /mnt/out/most how many of them were live at once, as the module says.
n=0
for guest in $GUESTS; do
    n=$((n + 1)) out=/mnt/out/$n-$guest
    mkdir -p "$out"
    (
        # shellcheck disable=SC2046,SC2086
        rvmm run $(cat "$guest/options") --kernel "$guest/vmlinuz" --initrd "$guest/initrd.img" --memory 256 --timeout "$SECONDS_EACH" --stats \
            --stats-file "$out/stats" $OPTIONS --append "console=ttyS0 tsc=reliable panic=-1 selfcheck=0 share=$SHARE" \
            </dev/null >"$out/console" 2>"$out/messages"
        echo $? >"$out/status"
    ) &
done
most=0 rounds=0
until [ "$(cat /mnt/out/*-*/status 2>/dev/null | wc -l)" = $n ]; do
    live=$(rvmm stats 2>/dev/null | awk '$1 == "vms.live" { print $2 }')
    [ "${live:-0}" -le $most ] || { most=$live; echo $most >/mnt/out/most; }
    rounds=$((rounds + 1))
    [ $((rounds % 15)) = 0 ] && for out in /mnt/out/*-*/; do echo "$(basename "$out"): $(grep -a '^ok' "$out/console" | tail -n 1 | tr -d '\r')"; done
    sleep 2
done
wait
