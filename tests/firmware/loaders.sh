#!/bin/bash
# The boot loaders of Debian 12 on diskettes and CD-ROMs, under rvmm in the lab: what they say on COM1, to their prompt and a command or two and
# back to the firmware or off, must be what the bare emulator shows.
#   [ENGINES='rvmm kvm'] [PROGRAMS='NAME ...'] loaders.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm}" "${PROGRAMS:=grub-floppy grub-iso}"

mkdir -p "$LAB_TOP/build/firmware"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$LAB_TOP/build/firmware/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
step "put the boot loaders on disks" "$here/loader-images.sh" "$work/dir"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$here/talk.sh" "$work/dir/"
cp -r "$here/talks" "$work/dir/"

for name in $PROGRAMS; do
    case $name in
    *floppy) drive="-drive file=$work/dir/$name.img,format=raw,if=floppy,snapshot=on -boot a" ;;
    *) drive="-cdrom $work/dir/$name.img -boot d" ;;
    esac
    status=0
    # shellcheck disable=SC2086
    in_root "$tools" -b "$work" sh "$work/dir/talk.sh" "$work/dir/talks/$name" "$work/bare/$name.serial" timeout 120 qemu-system-x86_64 -machine pc \
        -accel tcg -m 64 -nodefaults -vga std -display none -no-reboot -serial stdio $drive 2>"$work/bare/$name.log" || status=$?
    echo $status >"$work/bare/$name.status"
done

cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
cd /mnt/dir
for engine in $ENGINES; do
    for name in $PROGRAMS; do
        case $name in
        *floppy) drive="--floppy $name.img,snapshot=on --boot-order a" ;;
        *) drive="--cdrom $name.img --boot-order d" ;;
        esac
        status=0
        sh talk.sh talks/$name /mnt/out/$engine.$name.serial rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin $drive \
            --memory 64 --no-reboot --timeout 400 --debugcon file=/mnt/out/$engine.$name.debug 2>/mnt/out/$engine.$name.err || status=$?
        echo $status >/mnt/out/$engine.$name.status
    done
done
SCRIPT
DIR=$work/dir OUT=$work/out TIMEOUT=${TIMEOUT:-1800} CMD="ENGINES='$ENGINES' PROGRAMS='$PROGRAMS' sh /mnt/dir/run.sh" "$LAB/run.sh"

passed=0 failed=0
for engine in $ENGINES; do
    for name in $PROGRAMS; do
        bad=0
        # A bare emulator that shows nothing is no reference.
        [ -s "$work/bare/$name.serial" ] || bad=1
        diff -a "$work/bare/$name.serial" "$work/out/$engine.$name.serial" || bad=1
        diff "$work/bare/$name.status" "$work/out/$engine.$name.status" || bad=1
        if [ $bad = 0 ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            tail -n 20 "$work/out/$engine.$name.debug" "$work/out/$engine.$name.err"
            say "$engine $name: differs"
        fi
    done
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
