#!/bin/busybox sh
# Passes the guest's console on and compares the two clock lines of the self-check with the clock of this machine: at most 1 % apart.
# Run by busybox sh in the lab.
cr=$(printf '\r')
while IFS= read -r line; do
    line=${line%"$cr"}
    read -r here _ </proc/uptime
    printf '%s\n' "$line"
    case $line in
    "clock "*" begin") guest0=${line#clock } host0=$here ;;
    "clock "*" end")
        guest1=${line#clock }
        awk -v g0="${guest0%% *}" -v g1="${guest1%% *}" -v h0="$host0" -v h1="$here" 'BEGIN {
            g = g1 - g0; h = h1 - h0; off = h > 0 ? (g - h) * 100 / h : 100
            printf "%s clock: the guest saw %.3f s while the host saw %.2f s (%+.2f %%)\n", (off <= 1 && off >= -1) ? "ok" : "FAILED", g, h, off
        }'
        ;;
    esac
done
