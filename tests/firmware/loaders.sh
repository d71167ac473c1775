#!/bin/bash
# The boot loaders of Debian 12 on diskettes and CD-ROMs, under rvmm in the lab: what they say on COM1, to their prompt and a command or two and
# back to the firmware or off, must be what the bare emulator shows.
# Memtest86+, which GRUB starts, tells times; of it only passes and errors are compared, of one pass over 16 MiB.
#   [ENGINES='rvmm kvm'] [PROGRAMS='NAME ...'] [SECONDS_EACH=400] loaders.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm}" "${PROGRAMS:=grub-floppy grub-iso}" "${SECONDS_EACH:=400}"

mkdir -p "$LAB_TOP/build/firmware"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$LAB_TOP/build/firmware/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
step "put the boot loaders on disks" "$here/loader-images.sh" "$work/dir"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$here/talk.sh" "$work/dir/"
cp -r "$here/talks" "$work/dir/"

for name in $PROGRAMS; do
    mib=64
    case $name in
    memtest*) drive="-cdrom $work/dir/memtest.img -boot d" mib=16 ;;
    *floppy) drive="-drive file=$work/dir/$name.img,format=raw,if=floppy,snapshot=on -boot a" ;;
    *) drive="-cdrom $work/dir/$name.img -boot d" ;;
    esac
    status=0
    # shellcheck disable=SC2086
    in_root "$tools" -b "$work" sh "$work/dir/talk.sh" "$work/dir/talks/$name" "$work/bare/$name.serial" timeout "$SECONDS_EACH" qemu-system-x86_64 -machine pc \
        -accel tcg -m $mib -nodefaults -vga std -display none -no-reboot -serial stdio $drive 2>"$work/bare/$name.log" || status=$?
    # SYSLINUX and Memtest86+ start the machine again, which ends the run: with 80 under rvmm, as its help says, with 0 here.
    case $name,$status in syslinux*,0 | isolinux*,0 | memtest*,0) status=80 ;; esac
    echo $status >"$work/bare/$name.status"
done

cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
cd /mnt/dir
for engine in $ENGINES; do
    for name in $PROGRAMS; do
        mib=64
        case $name in
        memtest*) drive="--cdrom memtest.img --boot-order d" mib=16 ;;
        *floppy) drive="--floppy $name.img,snapshot=on --boot-order a" ;;
        *) drive="--cdrom $name.img --boot-order d" ;;
        esac
        status=0
        sh talk.sh talks/$name /mnt/out/$engine.$name.serial rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin $drive \
            --memory $mib --no-reboot --timeout $SECONDS_EACH --debugcon file=/mnt/out/$engine.$name.debug 2>/mnt/out/$engine.$name.err || status=$?
        echo $status >/mnt/out/$engine.$name.status
    done
done
SCRIPT
DIR=$work/dir OUT=$work/out TIMEOUT=${TIMEOUT:-1800} CMD="ENGINES='$ENGINES' PROGRAMS='$PROGRAMS' SECONDS_EACH=$SECONDS_EACH sh /mnt/dir/run.sh" "$LAB/run.sh"

# said NAME FILE: what is to be the same.
said() {
    case $1 in
    memtest*) tr '\033' '\n' <"$2" | grep -ao 'Pass: *[0-9]* *Errors: *[0-9]*' | sort -u ;;
    *) cat "$2" ;;
    esac
}
for engine in $ENGINES; do
    for name in $PROGRAMS; do
        bad=0
        # A bare emulator that shows nothing is no reference.
        [ -n "$(said "$name" "$work/bare/$name.serial" | tr -d '\0')" ] || bad=1
        diff -a <(said "$name" "$work/bare/$name.serial") <(said "$name" "$work/out/$engine.$name.serial") || bad=1
        diff "$work/bare/$name.status" "$work/out/$engine.$name.status" || bad=1
        [ $bad = 0 ] || tail -n 20 "$work/out/$engine.$name.debug" "$work/out/$engine.$name.err"
        verdict $bad "$engine $name"
    done
done
verdicts
