#!/bin/bash
# The graphics modes of the display adapter: a boot program fills their memory, and what the screen shows then must be the picture that the
# bare emulator shows, but for the last bits of its colours.
#   [ENGINES='rvmm kvm'] graphics.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm kvm}"
MODES='0013 0012 000d 0004 0006'

out=$LAB_TOP/build/firmware
make -s -C "$here" OUT="$out"
gcc -O2 -Wall -Wextra -Werror -o "$out/near" "$here/near.c"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$out/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$out/pictures.img" "$here/pictures.sh" "$work/dir/"
RVMM=${RVMM:-$("$LAB/user.sh")}
export RVMM

status=0
in_root "$tools" -b "$work" -b "$RVMM" env PATH="$(dirname "$RVMM"):$PATH" sh "$work/dir/pictures.sh" "$work/bare" timeout 120 qemu-system-x86_64 \
    -machine pc -accel tcg -m 64 -nodefaults -vga std -display none -device isa-debug-exit,iobase=0x501,iosize=4 \
    -qmp "unix:$work/bare/monitor,server=on,wait=off" -serial "file:$work/bare/serial" \
    -drive "file=$work/dir/pictures.img,format=raw,if=ide,snapshot=on" 2>"$work/bare/log" || status=$?
# isa-debug-exit ends the emulator with twice the guest's status and one.
[ $status = 1 ] || die "the bare emulator ended with $status: $(cat "$work/bare/log")"

cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
cd /mnt/dir
for engine in $ENGINES; do
    at=/tmp/$engine status=0
    mkdir $at
    sh pictures.sh $at rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin --disk pictures.img,snapshot=on --memory 64 \
        --timeout 400 --monitor unix:$at/monitor --serial file=$at/serial 2>/mnt/out/$engine.err || status=$?
    echo $status >/mnt/out/$engine.status
    mkdir /mnt/out/$engine
    cp $at/*.ppm $at/serial /mnt/out/$engine/
done
SCRIPT
DIR=$work/dir OUT=$work/out TIMEOUT=${TIMEOUT:-1800} CMD="ENGINES='$ENGINES' sh /mnt/dir/run.sh" "$LAB/run.sh"

for engine in $ENGINES; do
    for mode in $MODES; do
        bad=0
        "$out/near" "$work/bare/$mode.ppm" "$work/out/$engine/$mode.ppm" || bad=1
        verdict $bad "$engine mode $mode"
    done
    bad=0
    diff "$work/bare/serial" "$work/out/$engine/serial" && [ "$(cat "$work/out/$engine.status")" = 0 ] || bad=1
    [ $bad = 0 ] || tail -n 20 "$work/out/$engine.err"
    verdict $bad "$engine end"
done
verdicts
