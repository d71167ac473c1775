#!/bin/bash
# Debian 12 from a disk image: SeaBIOS, GRUB, Linux, systemd, a login on COM1, commands, poweroff; under rvmm in the lab and on the bare emulator.
# What is said from the login on and the status must be the same, the interrupts' controllers among it, and the file system clean afterwards.
#   [ENGINES='rvmm kvm'] [SECONDS_EACH=3600] [OUT=DIR] debian-disk.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm}" "${SECONDS_EACH:=3600}"

mkdir -p "$LAB_TOP/build/firmware"
tools=$("$LAB/tools-root.sh")
image=$("$here/debian-disk-image.sh")
work=$(mktemp -d "$LAB_TOP/build/firmware/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$here/talk.sh" "$here/talks/debian-disk" "$work/dir/"
OUT=${OUT:-$work/out}

for machine in bare $ENGINES; do cp --sparse=always "$image" "$work/$machine.img"; done
status=0
in_root "$tools" -b "$work" sh "$work/dir/talk.sh" "$work/dir/debian-disk" "$work/bare/serial" timeout "$SECONDS_EACH" qemu-system-x86_64 -machine pc \
    -accel tcg -m 256 -nodefaults -vga std -display none -no-reboot -serial stdio -drive "file=$work/bare.img,format=raw,if=ide" 2>"$work/bare/log" || status=$?
echo $status >"$work/bare/status"

# The images are disks of the lab's, in the order of ENGINES.
cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
number=0
for engine in $ENGINES; do
    disk=$(grep -lx image$number /sys/block/vd*/serial) && disk=${disk%/serial} && disk=/dev/${disk##*/}
    number=$((number + 1))
    status=0
    sh talk.sh debian-disk /mnt/out/$engine.serial rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin --disk $disk,format=raw \
        --memory 256 --no-reboot --timeout $SECONDS_EACH --stats --stats-file /mnt/out/$engine.stats \
        --debugcon file=/mnt/out/$engine.debug 2>/mnt/out/$engine.err || status=$?
    echo $status >/mnt/out/$engine.status
done
SCRIPT
images=
for engine in $ENGINES; do images+="rw:$work/$engine.img"$'\n'; done
DIR=$work/dir OUT=$OUT IMAGES=$images TIMEOUT=${TIMEOUT:-$((SECONDS_EACH + 300))} CMD="ENGINES='$ENGINES' SECONDS_EACH=$SECONDS_EACH sh /mnt/dir/run.sh" "$LAB/run.sh"

# said FILE: from the login to the last command. What comes behind it the shell's end and the kernel's say in any order, and with the time.
said() { sed -n '/login: root/,/poweroff/p' "$1" | tr -d '\r'; }
# clean MACHINE: the partition's file system is.
clean() { in_root "$tools" -b "$work" e2fsck -fn "$work/$1.img?offset=1048576"; }
bad=0
clean bare && grep -q 'running$' <(said "$work/bare/serial") || bad=1
verdict $bad "the bare emulator, by itself"
for engine in $ENGINES; do
    bad=0
    diff -a <(said "$work/bare/serial") <(said "$OUT/$engine.serial") || bad=1
    grep -aq 'reboot: Power down' "$OUT/$engine.serial" || bad=1
    diff "$work/bare/status" "$OUT/$engine.status" || bad=1
    clean "$engine" || bad=1
    [ $bad = 0 ] || tail -n 20 "$OUT/$engine.serial" "$OUT/$engine.debug" "$OUT/$engine.err"
    verdict $bad "$engine debian-disk"
done
verdicts
