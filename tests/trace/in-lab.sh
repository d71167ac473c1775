#!/bin/sh
# In the lab (busybox sh): runs every-exit.elf with rvmm's tracepoints on and asserts what the trace must show: each event, with what
# the guest is known to do, as often as the counters say.
T=/sys/kernel/tracing E=/sys/kernel/tracing/events/rvmm
trace=/mnt/out/trace stats=/mnt/out/stats
passed=0 failed=0
ok() { echo "ok $*"; passed=$((passed + 1)); }
bad() { echo "FAILED $*"; failed=$((failed + 1)); }

# Without the tactics that leave out exits, of system calls and of events: each of the guest's is to be seen.
run() { rvmm run --tactics=jump,paging --kernel every-exit.elf --memory 64 --serial stdio "$@" </dev/null >/mnt/out/serial 2>/mnt/out/messages; }
# count EVENT [REGEX]: events with matching fields.
count() { grep -E -c " $1: ${2:-}" "$trace"; }
# counter NAME...: the sum of counters, digits in groups in their table.
counter() {
    for name; do
        awk -v name="$name" '$1 == name { gsub(",", "", $2); print $2; found = 1 } END { if (!found) print "none" }' "$stats"
    done | awk '/none/ { none = 1 } { sum += $1 } END { print none ? "none" : sum }'
}
# equal EVENT REGEX COUNTER...: as many events as counted, and at least one.
equal() {
    event=$1 regex=$2 is=$(count "$1" "$2")
    shift 2
    wanted=$(counter "$@")
    if [ "$is" = "$wanted" ] && [ "$is" != 0 ]; then ok "$is $event $regex = $*"; else bad "$is $event $regex, $* = $wanted"; fi
}
# shows EVENT REGEX [NUMBER]: at least so many of them.
shows() {
    is=$(count "$1" "$2")
    if [ "$is" -ge "${3:-1}" ]; then ok "$is $1 $2"; else bad "$is $1 $2, not ${3:-1}"; fi
}
# never EVENT REGEX
never() {
    is=$(count "$1" "$2")
    if [ "$is" = 0 ]; then ok "no $1 $2"; else bad "$is $1 $2: $(grep -E -m 1 " $1: $2" "$trace")"; fi
}

mount -t tracefs tracefs $T 2>/dev/null
[ -d $E ] || { echo "FAILED: no $E"; ls $T | head; exit 1; }
echo 16384 >$T/buffer_size_kb
echo 1 >$E/enable
echo >$T/trace
run --stats --stats-file "$stats"
status=$?
echo 0 >$E/enable
cat $T/trace >"$trace"
if [ $status = 0 ] && [ -s "$stats" ]; then ok "status 0"; else
    echo "FAILED status $status: $(cat /mnt/out/messages)"
    exit 1
fi
lost=$(cat $T/per_cpu/cpu*/stats | awk '/^(overrun|commit overrun|dropped events)/ { sum += $NF } END { print sum + 0 }')
[ "$lost" = 0 ] && ok "no event was lost" || bad "$lost events were lost"

# The world switch: as often as it is counted, and by turns.
equal rvmm_entry '' world.switches
equal rvmm_exit '' world.switches
equal rvmm_exit '.* ring 1 ' exit.cpl1
equal rvmm_exit '.* ring 3 ' exit.cpl3
never rvmm_exit '.* ring [02] '
shows rvmm_entry 'mode kernel rip 0x[0-9a-f]+ cr3 0x[0-9a-f]+' 100
shows rvmm_entry 'mode user rip 0x[0-9a-f]+ cr3 0x[0-9a-f]+' 20
equal rvmm_exit 'reason exception vector #PF ' exit.pf
equal rvmm_exit 'reason exception vector #GP ' exit.gp
equal rvmm_exit 'reason exception vector #BP ' exit.bp
equal rvmm_exit 'reason interrupt vector 0x[2-9a-f][0-9a-f] ' exit.host_interrupt
shows rvmm_exit 'reason exception vector #GP ring 3 .* error 0x402 ' 20
shows rvmm_exit 'reason exception vector #PF ring 1 .* cr2 0x40000000'
turns=$(awk '/ rvmm_entry: / { if (inside) wrong++; inside = 1 } / rvmm_exit: / { if (!inside) wrong++; inside = 0 } END { print wrong + inside }' "$trace")
[ "$turns" = 0 ] && ok "entries and exits take turns" || bad "$turns entries and exits do not take turns"

# Page faults.
equal rvmm_page_fault '' exit.pf
equal rvmm_page_fault '.* outcome true ' mmu.true_faults
equal rvmm_page_fault '.* outcome hidden ' mmu.hidden_faults
shows rvmm_page_fault 'address 0x4000[0-7]000 error 0x2 outcome true ' 8
shows rvmm_page_fault 'address 0x50000000 error 0x[0-9a-f]+ outcome mmio gpa 0xd0000000'
shows rvmm_page_fault '.* outcome view-fetch gpa 0x[0-9a-f]+'
shows rvmm_page_fault '.* outcome tracked-(table|descriptor) gpa 0x[0-9a-f]+'

# What the guest gets.
equal rvmm_inject '' event.exceptions event.interrupts event.software
equal rvmm_inject 'kind exception ' event.exceptions
equal rvmm_inject 'kind interrupt ' event.interrupts
equal rvmm_inject 'kind software ' event.software
shows rvmm_inject 'kind exception vector #PF has_error 1 error 0x2 payload 0x4000[0-7]000' 8
shows rvmm_inject 'kind interrupt vector 0x[0-9a-f]+ has_error 0 ' 5
shows rvmm_inject 'kind software vector 0x80 has_error 0 ' 20

# Code.
equal rvmm_interpret '' interp.total
for cause in interp.site interp.privileged interp.mmio; do equal rvmm_interpret ".* cause $cause\$" $cause; done
shows rvmm_interpret 'rip 0x[0-9a-f]+ cpl 3 cause interp.privileged' 20
equal rvmm_scan '' code.blocks_scanned
[ "$(awk '/ rvmm_scan: / { sum += $(NF - 2) } END { print sum }' "$trace")" = "$(counter code.instructions_scanned)" ] &&
    ok "scans add up to the instructions counted" || bad "scans do not add up to the instructions counted"
equal rvmm_patch '.* tactic jump reason hot block 0x[0-9a-f]+ len [1-9]' code.sites_jump

# Devices and returns.
equal rvmm_pio '' user.pio
shows rvmm_pio 'pio_write at 0x3f8 size 1 val 0x' 10
shows rvmm_pio 'pio_read at 0x3fd size 1 val 0x'
shows rvmm_pio 'pio_write at 0x501 '
equal rvmm_mmio '' user.mmio
shows rvmm_mmio 'mmio write len 4 gpa 0xd0000000 val 0x12345678'
shows rvmm_mmio 'mmio read len 4 gpa 0xd0000000 val 0x'
equal rvmm_userspace_exit '' user.pio user.mmio user.hlt user.irq_window user.signal
equal rvmm_userspace_exit 'reason HLT' user.hlt

# Off is off, and the module goes and comes back while somebody listens.
echo >$T/trace
run && ! grep -q rvmm_ $T/trace && ok "nothing is traced when all are off" || bad "traced although all are off"
echo 1 >$E/enable
rmmod rvmm && [ ! -e $E ] && insmod /lab/rvmm.ko && [ -e $E ] && ok "unloaded and loaded while on" || bad "unloading while on"
echo 'vector == 0x80' >$E/rvmm_inject/filter && echo 1 >$E/rvmm_inject/enable && echo >$T/trace && run
[ "$(grep -c ' rvmm_inject: ' $T/trace)" = 20 ] && ! grep -q ' rvmm_entry: ' $T/trace && ok "a filter by field" || bad "a filter by field"

ls $E >/mnt/out/events
echo "$passed passed, $failed failed"
[ $failed = 0 ]
