#!/bin/bash
# Boots images like a PC under rvmm in the lab: with a terminal the screen is in it (SCREEN=serial: COM1), without one COM1 is the output, and the
# guest's end decides.
# DISK='image.qcow2 second.img,snapshot=on' CDROM=boot.iso FLOPPY=a.img, each with options as 'rvmm run' takes them; KERNEL= INITRD= GUEST_APPEND= a kernel
# that the firmware starts; ENGINE=rvmm|kvm SCREEN=curses|serial RUN_ARGS='more of rvmm run'. The images are the real ones: without readonly=on or
# snapshot=on the guest writes to them.
. "$(dirname "$0")/lib.sh"
need_root "$@"

: "${DISK:=}" "${CDROM:=}" "${FLOPPY:=}" "${KERNEL:=}" "${INITRD:=}" "${ENGINE:=rvmm}" "${SCREEN:=curses}" "${RUN_ARGS:=}" "${GUEST_APPEND:=}" "${OUT:=}"
export TIMEOUT=${TIMEOUT:-3600} MEM=${MEM:-1024} OUT
case $ENGINE in rvmm | kvm) ;; *) die "ENGINE=$ENGINE: rvmm or kvm" ;; esac
case $SCREEN in curses | serial) ;; *) die "SCREEN=$SCREEN: curses or serial" ;; esac

tools=$("$LAB/tools-root.sh")
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$stage/"
args=() IMAGES=

# give OPTION IMAGE[,OPTIONS]: hands an image to the lab, where it is a disk of its own whose serial number says which.
given=0
give() {
    local path=${2%%,*} options= access=rw format=
    [ "$path" = "$2" ] || options=,${2#*,}
    [ -f "$path" ] || [ -b "$path" ] || die "$path is no file: check the path"
    path=$(readlink -f "$path")
    case $1,$options in --cdrom,* | *readonly=on* | *snapshot=on*) access=ro ;; esac
    # What the program cannot find out, because the lab's disk has no name and ends at a whole sector.
    case $options,$path in *format=*) ;; *) [ "$1" = --cdrom ] || { [ "$(head -c 4 "$path" | tr -d '\0')" = $'QFI\xfb' ] && format=,format=qcow2 || format=,format=raw; } ;; esac
    IMAGES+="$access:$path"$'\n'
    args+=("$1" "/dev/image$given$options$format")
    given=$((given + 1))
}
for image in $DISK; do give --disk "$image"; done
for image in $FLOPPY; do give --floppy "$image"; done
for image in $CDROM; do give --cdrom "$image"; done
if [ -n "$KERNEL" ]; then
    [ -f "$KERNEL" ] || die "$KERNEL is no file: check the path"
    cp "$KERNEL" "$stage/kernel"
    args+=(--kernel kernel)
    [ -z "$INITRD" ] || { cp "$INITRD" "$stage/initrd" && args+=(--initrd initrd); }
    [ -z "$GUEST_APPEND" ] || args+=(--append "$GUEST_APPEND")
fi

export IMAGES DIR=$stage
line=$(printf '%q ' rvmm run --engine "$ENGINE" --bios bios-256k.bin --vgabios vgabios-stdvga.bin "${args[@]}")
prepare='modprobe kvm-amd 2>/dev/null
for disk in /sys/block/vd*; do serial=$(cat $disk/serial); case $serial in image*) ln -s ${disk##*/} /dev/$serial ;; esac; done'
if [ -t 0 ] && [ -t 1 ]; then
    say "Ctrl-A x ends the guest, Ctrl-] x the whole lab"
    [ "$SCREEN" = curses ] && line+='--display curses ' || line+='--serial stdio '
    size=$(stty size </dev/tty || echo 25 80)
    # The lab's console does not know how large the terminal is.
    export INTERACTIVE=1 CMD="$prepare
stty rows ${size% *} cols ${size#* }
$line $RUN_ARGS; status=\$?; echo \"the guest ended with status \$status\"; exit \$status"
else
    export CMD="$prepare
$line $RUN_ARGS"
fi
"$LAB/run.sh"
