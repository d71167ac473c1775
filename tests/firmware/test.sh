#!/bin/bash
# Firmware and boot programs: SeaBIOS, as Debian packages it, starts them from a disk under rvmm, on /dev/rvmm and on /dev/kvm, in the lab.
# What they print on COM1 and port E9 and how they end must be what the bare emulator shows.
#   [ENGINES='rvmm kvm'] [PROGRAMS='NAME ...'] test.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm kvm}" "${PROGRAMS:=hello pc reset apic}"

out=$LAB_TOP/build/firmware
make -s -C "$here" OUT="$out"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$out/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$work/dir/"

# The bare emulator. Its isa-debug-exit ends with twice the status and one; 0 is the machine switched off, as with rvmm.
bare() {
    local name=$1 status=0
    in_root "$tools" -b "$work" timeout 120 qemu-system-x86_64 -machine pc -accel tcg -m 64 -nodefaults -vga std -display none \
        -device isa-debug-exit,iobase=0x501,iosize=4 -serial "file:$work/bare/$name.serial" \
        -drive "file=$work/dir/$name.img,format=raw,if=ide,snapshot=on" || status=$?
    [ $((status % 2)) = 0 ] || status=$((status / 2))
    echo "$status" >"$work/bare/$name.status"
}
for name in $PROGRAMS; do
    cp "$out/$name.img" "$work/dir/"
    bare "$name" >"$work/bare/$name.log" 2>&1
done

cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
for engine in $ENGINES; do
    for name in $PROGRAMS; do
        status=0
        rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin --disk $name.img,snapshot=on --memory 64 --timeout 400 \
            --serial file=/mnt/out/$engine.$name.serial --debugcon file=/mnt/out/$engine.$name.debug 2>/mnt/out/$engine.$name.err || status=$?
        echo $status >/mnt/out/$engine.$name.status
    done
    # Nothing to boot from: firmware says so, and waits.
    rvmm run --engine $engine --bios bios-256k.bin --vgabios none --memory 64 --timeout 20 --serial none \
        --debugcon file=/mnt/out/$engine.nothing.debug 2>/mnt/out/$engine.nothing.err
    echo $? >/mnt/out/$engine.nothing.status
done
SCRIPT
DIR=$work/dir OUT=$work/out TIMEOUT=${TIMEOUT:-1800} CMD="ENGINES='$ENGINES' PROGRAMS='$PROGRAMS' sh /mnt/dir/run.sh" "$LAB/run.sh"

for engine in $ENGINES; do
    for name in $PROGRAMS; do
        bad=0
        # A bare emulator that shows nothing is no reference.
        [ -s "$work/bare/$name.serial" ] || bad=1
        diff "$work/bare/$name.serial" "$work/out/$engine.$name.serial" || bad=1
        diff "$work/bare/$name.status" "$work/out/$engine.$name.status" || bad=1
        # Port E9 has what COM1 has, among what firmware says.
        tr -d '\r' <"$work/out/$engine.$name.debug" | grep -Fqx "$(tail -n 1 "$work/bare/$name.serial")" || bad=1
        [ $bad = 0 ] || tail -n 20 "$work/out/$engine.$name.debug" "$work/out/$engine.$name.err"
        verdict $bad "$engine $name"
    done
    bad=0
    grep -q 'No bootable device' "$work/out/$engine.nothing.debug" && [ "$(cat "$work/out/$engine.nothing.status")" = 124 ] || bad=1
    verdict $bad "$engine nothing"
done
verdicts
