#!/bin/bash
# Firmware and boot programs: SeaBIOS, as Debian packages it, starts them from a disk under rvmm, on /dev/rvmm and on /dev/kvm, in the lab.
# What they print on COM1 (one of them on four serial ports, one with three disks) and port E9 and how they end must be what the bare emulator shows.
#   [ENGINES='rvmm kvm'] [PROGRAMS='NAME ...'] test.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm kvm}" "${PROGRAMS:=hello pc reset apic serial disks}"

out=$LAB_TOP/build/firmware
make -s -C "$here" OUT="$out"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$out/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$work/dir/"

# more_serials NAME: the options for COM2 to COM4 of the bare emulator.
more_serials() {
    [ "$1" != serial ] || printf -- "-serial file:$work/bare/serial.serial%d " 2 3 4
}

# Disks of no content beside the last program's: one with more than 1,024 cylinders, and one whose partition ends at head 254, sector 63.
cat >"$work/dir/disks.sh" <<'SCRIPT'
truncate -s 700M large.img
truncate -s 40M partition.img
printf '\200\001\001\000\203\376\077\004\077\000\000\000\000\100\001\000' | dd of=partition.img bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of=partition.img bs=1 seek=510 conv=notrunc status=none
SCRIPT
(cd "$work/bare" && sh "$work/dir/disks.sh")
# more_disks NAME: the same for the disks.
more_disks() {
    [ "$1" != disks ] || printf -- "-drive file=$work/bare/%s.img,format=raw,if=ide " large partition
}

for name in $PROGRAMS; do
    cp "$out/$name.img" "$work/dir/"
    # shellcheck disable=SC2046
    bare_pc "$work" 120 "$work/bare/$name.status" -serial "file:$work/bare/$name.serial" $(more_serials "$name") \
        -drive "file=$work/dir/$name.img,format=raw,if=ide,snapshot=on" $(more_disks "$name") >"$work/bare/$name.log" 2>&1
done

cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
(cd /tmp && sh /mnt/dir/disks.sh)
for engine in $ENGINES; do
    for name in $PROGRAMS; do
        status=0 more=
        [ $name != disks ] || more="--disk /tmp/large.img --disk /tmp/partition.img"
        [ $name != serial ] || for number in 2 3 4; do more="$more --serial file=/mnt/out/$engine.serial.serial$number"; done
        rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin --disk $name.img,snapshot=on --memory 64 --timeout 400 \
            --serial file=/mnt/out/$engine.$name.serial $more --debugcon file=/mnt/out/$engine.$name.debug 2>/mnt/out/$engine.$name.err || status=$?
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
        for more in "$work/bare/$name".serial?; do
            [ ! -e "$more" ] || diff "$more" "$work/out/$engine.${more##*/}" || bad=1
        done
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
