#!/bin/busybox sh
# Bad input, inside the lab; the inputs lie in this folder. Needs /dev/rvmm.
passed=0 failed=0

# expect STATUS TEXT NAME COMMAND...: the command ends with this status, says TEXT (an extended regular expression) on standard error, in a few lines, and the
# module can be taken out afterwards.
expect() {
    want=$1 text=$2 name=$3
    shift 3
    status=0
    timeout -s KILL 120 "$@" </dev/null >/tmp/out 2>/tmp/err || status=$?
    why=
    [ $status = "$want" ] || why="status $status, not $want"
    grep -qE "$text" /tmp/err || why="$why; no '$text' in the message"
    [ "$(wc -l </tmp/err)" -le "${lines:-8}" ] || why="$why; the message has $(wc -l </tmp/err) lines"
    ! grep -qE 'panicked|RUST_BACKTRACE' /tmp/err || why="$why; it panicked"
    users=$(sed -n 's/^rvmm [0-9]* \([0-9]*\) .*/\1/p' /proc/modules)
    [ "${users:-0}" = 0 ] || why="$why; the module is still in use ($users)"
    if [ -z "$why" ]; then
        passed=$((passed + 1))
        echo "ok $name: $(head -n 1 /tmp/err)"
    else
        failed=$((failed + 1))
        echo "FAILED $name: $why"
        sed 's/^/    /' /tmp/err | tail -n 8
    fi
}

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

# Disks. The firmware and its guest are the same in all.
firmware="rvmm run --bios bios-256k.bin --vgabios none --memory 32 --timeout 90"
expect 66 'nowhere.img' "missing disk" $firmware --disk nowhere.img
expect 66 'short.qcow2' "qcow2 image that is its first 8 bytes" $firmware --disk short.qcow2,readonly=on
expect 66 'truncated.qcow2' "qcow2 image whose table is not there" $firmware --disk truncated.qcow2,readonly=on
expect 124 'timeout' "boot sector without its signature" $firmware --timeout 30 --disk no-signature.img,readonly=on --debugcon stdio --serial none
grep -aq 'not a bootable disk' /tmp/out || { failed=$((failed + 1)); echo "FAILED firmware said nothing of the missing signature: $(tail -n 3 /tmp/out)"; }

# start DISK [OPTION...]: the boot program on this disk; tell LETTER EXPECTED: what it answers (a regular expression).
mkfifo /tmp/orders
start() {
    disk=$1
    shift
    : >/tmp/answers
    $firmware --disk "$disk" "$@" </tmp/orders >/tmp/answers 2>/tmp/err &
    pid=$!
    exec 9>/tmp/orders
    tell '' ready
}
tell() {
    printf '%s' "$1" >&9
    for _ in $(seq 600); do
        tr -d '\r' </tmp/answers | tail -n 1 | grep -qE "^$2" && return
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    why="$why; told '$1' it answered '$(tail -n 1 /tmp/answers)', not '$2'"
}
# finish NAME TEXT: ends the program; its status must be 0, and standard error hold TEXT.
finish() {
    printf q >&9
    status=0
    wait $pid || status=$?
    exec 9>&-
    [ $status = 0 ] || why="$why; status $status"
    grep -qE "$2" /tmp/err || why="$why; no '$2' in the message"
    ! grep -q panicked /tmp/err || why="$why; it panicked"
    [ "$(wc -l </tmp/err)" -le 8 ] || why="$why; the message has $(wc -l </tmp/err) lines"
    if [ -z "$why" ]; then
        passed=$((passed + 1))
        echo "ok $1: $(head -n 1 /tmp/err)"
    else
        failed=$((failed + 1))
        echo "FAILED $1$why"
        sed 's/^/    /' /tmp/err | tail -n 8
    fi
}
cp disk.img /tmp/disk.img
before=$(sha256sum </tmp/disk.img)
why=
start /tmp/disk.img,readonly=on
tell r 'read 0000'
tell w 'write 00[1-9a-f]|write 000[1-9a-f]'
# Others may read what is only read, and nobody may write.
timeout -s KILL 60 rvmm run --bios bios-256k.bin --vgabios none --disk /tmp/disk.img --timeout 20 </dev/null >/dev/null 2>/tmp/err2
[ $? = 66 ] && grep -q 'disk.img' /tmp/err2 || why="$why; a second run may write: $(cat /tmp/err2)"
finish "an image that is only read" ''
[ "$before" = "$(sha256sum </tmp/disk.img)" ] || { failed=$((failed + 1)); echo "FAILED an image that is only read was changed"; }

why=
start /tmp/disk.img,snapshot=on
tell w 'write 0000'
tell r 'read 0000'
finish "an image with a snapshot" ''
[ "$before" = "$(sha256sum </tmp/disk.img)" ] || { failed=$((failed + 1)); echo "FAILED an image with a snapshot was changed"; }

why=
start /tmp/disk.img
tell w 'write 0000'
timeout -s KILL 60 rvmm run --bios bios-256k.bin --vgabios none --disk /tmp/disk.img,readonly=on --timeout 20 </dev/null >/dev/null 2>/tmp/err2
[ $? = 66 ] && grep -qi 'use' /tmp/err2 || why="$why; a second run may read what is written: $(cat /tmp/err2)"
finish "an image in use by another run" ''

why=
start /tmp/disk.img
tell r 'read 0000'
truncate -s 4096 /tmp/disk.img
tell r 'read 00[1-9a-f]|read 000[1-9a-f]'
finish "an image that shrinks" 'disk.img'

# A disk full on the host: a file with a hole where there is no room to fill it.
mkdir -p /tmp/small
mount -t tmpfs -o size=64k tmpfs /tmp/small
head -c 1024 disk.img >/tmp/small/disk.img
truncate -s 1M /tmp/small/disk.img
dd if=/dev/zero of=/tmp/small/rest bs=4096 2>/dev/null
why=
start /tmp/small/disk.img
tell r 'read 0000'
tell w 'write 00[1-9a-f]|write 000[1-9a-f]'
finish "a host whose disk is full" 'disk.img'
umount /tmp/small

# A medium with a bad sector: device-mapper's error target.
if modprobe dm_mod 2>/dev/null && modprobe loop 2>/dev/null && command -v dmsetup >/dev/null; then
    cp disk.img /tmp/medium
    loop=$(losetup -f) && losetup "$loop" /tmp/medium
    printf '0 64 linear %s 0\n64 64 error\n128 1920 linear %s 128\n' "$loop" "$loop" | dmsetup create bad
    dmsetup mknodes 2>/dev/null
    why=
    start /dev/mapper/bad,format=raw
    tell r 'read 00[1-9a-f]|read 000[1-9a-f]'
    tell w 'write 00[1-9a-f]|write 000[1-9a-f]'
    finish "a medium with a bad sector" 'bad'
    dmsetup remove bad
    losetup -d "$loop"
else
    echo "skipped: there is no device mapper here"
fi

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
