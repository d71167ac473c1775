#!/bin/bash
# The boot loaders of Debian 12 on diskettes and CD-ROMs, under rvmm in the lab: what they say on COM1, to their prompt and a command or two and
# back to the firmware or off, must be what the bare emulator shows; and Debian's installer, to its first screen.
# Memtest86+, which GRUB starts, tells times; of it only passes and errors are compared, of one pass over 16 MiB. iPXE speaks on the text screen
# only; that is compared when it has found no network and firmware nothing else to start.
#   [ENGINES='rvmm kvm'] [PROGRAMS='NAME ...'] [SECONDS_EACH=400] loaders.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm}" "${PROGRAMS:=grub-floppy grub-iso}" "${SECONDS_EACH:=400}"

# What is waited for: firmware's last words on port 402 and the screen; the installer's first question.
NOTHING_MORE='No bootable device.' QUESTION='Prompt:'

mkdir -p "$LAB_TOP/build/firmware"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$LAB_TOP/build/firmware/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
step "put the boot loaders on disks" "$here/loader-images.sh" "$work/dir"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$here/talk.sh" "$here/screen.sh" "$work/dir/"
cp -r "$here/talks" "$work/dir/"
case " $PROGRAMS " in *' installer '*) cp "$("$here/installer-image.sh")" "$work/dir/installer.img" ;; esac
RVMM=${RVMM:-$("$LAB/user.sh")}
export RVMM

for name in $PROGRAMS; do
    # With less than 780 MiB the installer leaves its questions about languages out.
    mib=64
    case $name in
    memtest*) drive="-cdrom $work/dir/memtest.img -boot d" mib=16 ;;
    *floppy) drive="-drive file=$work/dir/$name.img,format=raw,if=floppy,snapshot=on -boot a" ;;
    installer) drive="-cdrom $work/dir/$name.img -boot d" mib=800 ;;
    *) drive="-cdrom $work/dir/$name.img -boot d" ;;
    esac
    at=$work/bare/$name shown=$work/bare/$name/serial
    mkdir "$at"
    watched=(-qmp "unix:$at/monitor,server=on,wait=off" -serial "file:$at/serial" -chardev "file,id=debug,path=$at/debug" -device isa-debugcon,iobase=0x402,chardev=debug)
    case $name in
    # QEMU has a ROM of its own for the APIC, which firmware counts as a hard disk.
    ipxe) how=(sh "$work/dir/screen.sh" "$at" debug "$NOTHING_MORE") options=("${watched[@]}" -global apic-common.vapic=off) shown=$at/screen ;;
    installer) how=(sh "$work/dir/screen.sh" "$at" serial "$QUESTION") options=("${watched[@]}") ;;
    *) how=(sh "$work/dir/talk.sh" "$work/dir/talks/$name" "$at/serial") options=(-serial stdio) ;;
    esac
    status=0
    # shellcheck disable=SC2086
    in_root "$tools" -b "$work" -b "$RVMM" env PATH="$(dirname "$RVMM"):$PATH" "${how[@]}" timeout "$SECONDS_EACH" qemu-system-x86_64 -machine pc \
        -accel tcg -m $mib -nodefaults -vga std -display none -no-reboot "${options[@]}" $drive 2>"$work/bare/$name.log" || status=$?
    mv "$shown" "$work/bare/$name.serial"
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
        installer) drive="--cdrom $name.img --boot-order d" mib=800 ;;
        *) drive="--cdrom $name.img --boot-order d" ;;
        esac
        at=/tmp/$engine.$name shown=/tmp/$engine.$name/serial
        mkdir $at
        watched="--serial file=$at/serial --monitor unix:$at/monitor"
        case $name in
        ipxe) options=$watched shown=$at/screen && set -- screen.sh $at debug "$NOTHING_MORE" ;;
        installer) options=$watched && set -- screen.sh $at serial "$QUESTION" ;;
        *) options= && set -- talk.sh talks/$name $at/serial ;;
        esac
        status=0
        sh "$@" rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin $drive $options \
            --memory $mib --no-reboot --timeout $SECONDS_EACH --debugcon file=$at/debug 2>/mnt/out/$engine.$name.err || status=$?
        echo $status >/mnt/out/$engine.$name.status
        mv $shown /mnt/out/$engine.$name.serial
        mv $at/debug /mnt/out/$engine.$name.debug
    done
done
SCRIPT
DIR=$work/dir OUT=$work/out TIMEOUT=${TIMEOUT:-1800} CMD="ENGINES='$ENGINES' PROGRAMS='$PROGRAMS' SECONDS_EACH=$SECONDS_EACH NOTHING_MORE='$NOTHING_MORE' QUESTION='$QUESTION' sh /mnt/dir/run.sh" "$LAB/run.sh"

# said NAME FILE: what is to be the same.
said() {
    case $1 in
    memtest*) tr '\033' '\n' <"$2" | grep -ao 'Pass: *[0-9]* *Errors: *[0-9]*' | sort -u ;;
    # Behind what firmware, GRUB and the kernel say.
    installer) sed -n "/Select a language/,/$QUESTION/p" "$2" | sed "s/$QUESTION.*/$QUESTION/" ;;
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
