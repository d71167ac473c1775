#!/bin/busybox sh
# Bad input, inside the lab; the inputs lie in this folder. Needs /dev/rvmm.
. ./expect.sh

expect 66 'nowhere' "missing kernel" rvmm run --kernel nowhere
expect 66 'nowhere' "missing initrd" rvmm run --kernel vmlinuz --initrd nowhere
expect 66 'empty' "empty kernel" rvmm run --kernel empty
expect 66 'random' "random bytes" rvmm run --kernel random
expect 66 'truncated' "truncated kernel" rvmm run --kernel truncated
expect 66 'no-magic' "kernel without its magic" rvmm run --kernel no-magic
expect 66 'bad-size' "kernel with a wrong size in its header" rvmm run --kernel bad-size
expect 66 '64-bit' "kernel for x86-64 on a 32-bit CPU" rvmm run --kernel amd64 --cpu 32
expect 66 'no 64-bit entry' "64-bit entry of a 32-bit kernel" rvmm run --kernel vmlinuz --boot linux64
expect 66 'bzImage' "PVH entry of a bzImage" rvmm run --kernel vmlinuz --boot pvh
expect 66 'multiboot 1' "ELF file without an entry" rvmm run --kernel no-entry.elf
expect 66 'checksum is wrong' "multiboot header with a wrong checksum" rvmm run --kernel bad-checksum.elf
expect 66 'flags 0x00000200' "multiboot header with an unknown flag" rvmm run --kernel unknown-flag
expect 66 'first 8 KiB' "multiboot header too far behind" rvmm run --kernel far-header
expect 66 'type 77' "multiboot 2 header with an unknown tag" rvmm run --kernel unknown-tag
expect 66 'architecture' "kernel for AArch64" rvmm run --kernel aarch64.elf
expect 66 'memory' "1 MiB of memory" rvmm run --kernel vmlinuz --memory 1
expect 66 'memory' "a kernel larger than the memory" rvmm run --kernel vmlinuz --memory 8
expect 66 'memory|initrd' "an initrd that does not fit" rvmm run --kernel vmlinuz --initrd vmlinuz --memory 24
expect 65 'memory' "no number for the memory" rvmm run --kernel vmlinuz --memory many
expect 65 'model' "a model that is not there" rvmm run --kernel vmlinuz --model 0/2/3
expect 65 'cpu' "a CPU that is not there" rvmm run --kernel vmlinuz --cpu 16
expect 65 'kernel' "no kernel named" rvmm run
expect 69 'sda9' "an engine that is not there" rvmm run --kernel hello.elf --engine /dev/sda9
expect 69 'KVM' "an engine that is another device" rvmm run --kernel hello.elf --engine /dev/null
expect 81 'triple-faulted' "a triple fault" rvmm run --kernel triple-fault.elf
expect 81 'triple-faulted' "a jump to unmapped memory" rvmm run --kernel bad-jump.elf
expect 81 'triple-faulted' "a stack in unmapped memory" rvmm run --kernel bad-stack.elf
expect 81 'triple-faulted' "garbage instead of code" rvmm run --kernel garbage.elf
expect 82 'interrupts off' "a kernel whose compressed code is corrupt, which says so and halts" rvmm run --kernel corrupt --append earlyprintk=serial,ttyS0,115200
grep -q 'corrupt' /tmp/out || { failed=$((failed + 1)); echo "FAILED the guest said nothing of corrupt data: $(tail -n 3 /tmp/out)"; }
expect 124 'timeout' "a guest that spins with interrupts off, and --timeout" rvmm run --kernel spin.elf --timeout 2

# A signal ends a spinning guest; so does kill -9, within 20 ms, and the module is free again.
rvmm run --kernel spin.elf </dev/null >/dev/null 2>/tmp/err &
pid=$!
sleep 2
rmmod rvmm 2>/dev/null && { failed=$((failed + 1)); echo "FAILED rmmod was not refused while a guest ran"; }
kill -INT $pid
wait $pid
status=$?
if [ $status = 130 ]; then passed=$((passed + 1)); echo "ok SIGINT ends a spinning guest"; else failed=$((failed + 1)); echo "FAILED SIGINT: status $status"; fi

# The escape key, from a terminal.
cat >/tmp/escape <<'EOF'
{ sleep 2; printf '\001x'; sleep 2; } | script -q -c 'rvmm run --kernel spin.elf; echo "status $?" >/tmp/escaped' /dev/null
EOF
timeout -s KILL 60 sh /tmp/escape >/dev/null 2>&1
if grep -q 'status 130' /tmp/escaped 2>/dev/null; then passed=$((passed + 1)); echo "ok the escape key ends a spinning guest"; else failed=$((failed + 1)); echo "FAILED escape key: $(cat /tmp/escaped)"; fi

# late COMMAND...: how many ms after kill -9 the spinning command is gone; the best of five, for other work on the machine may delay any
# one. /proc/uptime counts in 10 ms.
late() {
    best=10000
    for _ in 1 2 3 4 5; do
        "$@" </dev/null >/dev/null 2>&1 &
        pid=$!
        sleep 2
        read -r before _ </proc/uptime
        kill -KILL $pid
        wait $pid 2>/dev/null
        read -r after _ </proc/uptime
        ms=$(awk -v a="$before" -v b="$after" 'BEGIN { printf "%d", (b - a) * 1000 + 0.5 }')
        [ "$ms" -ge $best ] || best=$ms
    done
    echo $best
}
# A shared emulator loses time in any process, so a plain loop is the measure.
plain=$(late sh -c 'while :; do :; done')
guest=$(late rvmm run --kernel spin.elf --memory 16)
if [ $((guest - plain)) -le 20 ]; then passed=$((passed + 1)); echo "ok kill -9 ends a spinning guest (after $guest ms; a plain loop: $plain ms)"; else failed=$((failed + 1)); echo "FAILED kill -9: it took $guest ms, with a plain loop $plain ms"; fi

if rmmod rvmm; then passed=$((passed + 1)); echo "ok rmmod afterwards"; else failed=$((failed + 1)); echo "FAILED rmmod: $(cat /proc/modules | grep rvmm)"; fi
expect 69 'rvmm' "the module is not loaded" rvmm run --kernel hello.elf
if insmod /lab/rvmm.ko && rvmm run --kernel hello.elf </dev/null >/dev/null 2>&1; then passed=$((passed + 1)); echo "ok a guest after all that"; else failed=$((failed + 1)); echo "FAILED a guest after all that"; fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
