#!/bin/bash
# Teaching systems: small operating systems as courses have them, with test suites of their own, started by SeaBIOS from disk images under rvmm, on
# /dev/rvmm and on /dev/kvm, in the lab. What they print on COM1, a sum of their text screen with it, and how they end must be what the bare
# emulator shows, and none of their tests may be bad.
#   teach16  real mode, from a diskette: BIOS and own interrupts, timer, A20, unreal mode
#   teach32  protected mode, linked at 3 GiB: paging, user programs, IDE, keyboard, task switches, virtual-8086 mode
#   teach64  long mode, linked at the top: APICs, SYSCALL, IST stacks, bus-master DMA
# [ENGINES='rvmm kvm'] [PROGRAMS='NAME ...'] test.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm kvm}" "${PROGRAMS:=teach16 teach32 teach64}"

out=$LAB_TOP/build/teaching
make -s -C "$here" OUT="$out"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$out/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$out/second.img" "$work/dir/"

for name in $PROGRAMS; do
    cp "$out/$name.img" "$work/dir/"
    case $name in
    teach16) drives=(-drive "file=$work/dir/$name.img,format=raw,if=floppy,snapshot=on") ;;
    *) drives=(-drive "file=$work/dir/$name.img,format=raw,if=ide,snapshot=on" -drive "file=$work/dir/second.img,format=raw,if=ide,snapshot=on") ;;
    esac
    bare_pc "$work" 300 "$work/bare/$name.status" -machine hpet=off -no-reboot -serial "file:$work/bare/$name.serial" "${drives[@]}" \
        >"$work/bare/$name.log" 2>&1
done

cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
for engine in $ENGINES; do
    for name in $PROGRAMS; do
        case $name in
        teach16) drives="--floppy $name.img,snapshot=on" ;;
        *) drives="--disk $name.img,snapshot=on --disk second.img,snapshot=on" ;;
        esac
        status=0
        rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin $drives --memory 64 --timeout 900 --stats \
            --serial file=/mnt/out/$engine.$name.serial 2>/mnt/out/$engine.$name.err || status=$?
        echo $status >/mnt/out/$engine.$name.status
    done
done
SCRIPT
DIR=$work/dir OUT=$work/out TIMEOUT=${TIMEOUT:-3600} CMD="ENGINES='$ENGINES' PROGRAMS='$PROGRAMS' sh /mnt/dir/run.sh" "$LAB/run.sh"

for engine in $ENGINES; do
    for name in $PROGRAMS; do
        bad=0
        # A bare emulator whose tests are not all well is no reference.
        tail -n 1 "$work/bare/$name.serial" | grep -q ' ok, 0 bad$' || bad=1
        diff "$work/bare/$name.serial" "$work/out/$engine.$name.serial" || bad=1
        diff "$work/bare/$name.status" "$work/out/$engine.$name.status" || bad=1
        # Reads of the local APIC's ID in locks must not be exits.
        case $engine.$name in
        rvmm.teach32) [ "$(sed -n 's/^ *world.replied_loads *//p' "$work/out/$engine.$name.err" | tr -d ,)" -ge 30000 ] || bad=1 ;;
        esac
        [ $bad = 0 ] || tail -n 20 "$work/bare/$name.serial" "$work/out/$engine.$name.err"
        verdict $bad "$engine $name"
    done
done
verdicts
