#!/bin/busybox sh
# Bad disks, inside the lab; the inputs lie in this folder. Needs /dev/rvmm.
. ./expect.sh

# Disks. The firmware and its guest are the same in all.
firmware="rvmm run --bios bios-256k.bin --vgabios none --memory 32 --timeout 240"
expect 66 'nowhere.img' "missing disk" $firmware --disk nowhere.img
expect 66 'short.qcow2' "qcow2 image that is its first 8 bytes" $firmware --disk short.qcow2,readonly=on
expect 66 'truncated.qcow2' "qcow2 image whose table is not there" $firmware --disk truncated.qcow2,readonly=on
expect 124 'timeout' "boot sector without its signature" $firmware --timeout 90 --disk no-signature.img,readonly=on --debugcon stdio --serial none
grep -aq 'not a bootable disk' /tmp/out || { failed=$((failed + 1)); echo "FAILED firmware said nothing of the missing signature: $(tail -n 3 /tmp/out)"; }

# start DISK [OPTION...]: the boot program on this disk; tell LETTER EXPECTED: what it answers (a regular expression).
mkfifo /tmp/orders
# A program that is gone takes no more orders.
trap '' PIPE
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
    printf '%s' "$1" 2>/dev/null >&9
    for _ in $(seq 900); do
        tr -d '\r' </tmp/answers | tail -n 1 | grep -qE "^$2" && return
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    why="$why; told '$1' it answered '$(tail -n 1 /tmp/answers)', not '$2'"
}
# finish NAME TEXT: ends the program; its status must be 0, and standard error hold TEXT, or nothing if that is empty.
finish() {
    printf q 2>/dev/null >&9
    status=0
    wait $pid || status=$?
    exec 9>&-
    [ $status = 0 ] || why="$why; status $status"
    if [ -n "$2" ]; then
        grep -qE "$2" /tmp/err || why="$why; no '$2' in the message"
    else
        [ ! -s /tmp/err ] || why="$why; it has a message"
    fi
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
timeout -s KILL 60 rvmm run --bios bios-256k.bin --vgabios none --disk /tmp/disk.img --timeout 5 </dev/null >/dev/null 2>/tmp/err2
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
timeout -s KILL 60 rvmm run --bios bios-256k.bin --vgabios none --disk /tmp/disk.img,readonly=on --timeout 5 </dev/null >/dev/null 2>/tmp/err2
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
modprobe dm_mod
modprobe loop
cp disk.img /tmp/medium
loop=$(losetup -f) && losetup "$loop" /tmp/medium
printf '0 64 linear %s 0\n64 64 error\n128 1920 linear %s 128\n' "$loop" "$loop" | dmsetup create bad
dmsetup mknodes
why=
start /dev/mapper/bad,format=raw
tell r 'read 00[1-9a-f]|read 000[1-9a-f]'
tell w 'write 00[1-9a-f]|write 000[1-9a-f]'
finish "a medium with a bad sector" 'bad: cannot write'
dmsetup remove bad
losetup -d "$loop"

echo "$passed passed, $failed failed"
[ $failed = 0 ]
