#!/bin/bash
# Multiboot kernels of our own under rvmm in the lab. What they print of what they were told and found must be what they print on the bare
# emulator: version 1 started by QEMU's -kernel, version 2 and video modes by GRUB from a CD-ROM. Lines that begin with '#' are the loader's own affair.
#   [ENGINES='rvmm kvm'] test.sh       ends with one line "N passed, N failed"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
need_root "$@"
: "${ENGINES:=rvmm kvm}"

out=$LAB_TOP/build/multiboot
make -s -C "$here" OUT="$out"
tools=$("$LAB/tools-root.sh")
work=$(mktemp -d "$out/XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir" "$work/bare"
cp "$tools"/usr/share/seabios/{bios-256k.bin,vgabios-stdvga.bin} "$out"/{mb1.elf,mb1.bin,mb1-video.elf,mb2.elf,mb2-long.elf,mb2-video.elf,refused.elf} "$work/dir/"
printf 'first module' >"$work/dir/one"
head -c 10000 /dev/urandom >"$work/dir/two"
head -c 1M /dev/urandom >"$work/dir/disk.img"

machine=(-machine pc -accel tcg -m 64 -nodefaults -vga std -display none -device isa-debug-exit,iobase=0x501,iosize=4
    -drive "file=$work/dir/disk.img,format=raw,if=ide,snapshot=on")
bare() {
    in_root "$tools" -b "$work" env -C "$work/dir" timeout 120 qemu-system-x86_64 "${machine[@]}" -serial "file:$work/bare/$1.serial" "${@:2}" \
        >"$work/bare/$1.log" 2>&1 || true
}
for name in mb1.elf mb1.bin; do
    bare $name -kernel $name -append 'word  two' -initrd 'one with args,two'
done
# GRUB passes what is behind the file's name.
mkdir -p "$work/iso/boot/grub"
cp "$work"/dir/{mb1-video.elf,mb2.elf,mb2-long.elf,mb2-video.elf,one,two} "$work/iso/"
for name in mb1-video.elf mb2.elf mb2-long.elf mb2-video.elf; do
    version=2 first=
    # Version 1 kernels get their own name first from QEMU and rvmm, from GRUB 2 nothing.
    [ $name != mb1-video.elf ] || version= first='x '
    printf '%s\n' 'insmod all_video' "multiboot$version /$name ${first}word two" "module$version /one ${first}with args" "module$version /two" boot \
        >"$work/iso/boot/grub/grub.cfg"
    in_root "$tools" -b "$work" grub-mkrescue -o "$work/$name.iso" "$work/iso" >"$work/bare/$name.mkrescue" 2>&1
    bare $name -cdrom "$work/$name.iso" -boot d
done

cat >"$work/dir/run.sh" <<'SCRIPT'
modprobe kvm-amd 2>/dev/null
cd /mnt/dir
for engine in $ENGINES; do
    for name in mb1.elf mb1.bin mb1-video.elf mb2.elf mb2-long.elf mb2-video.elf refused.elf; do
        append='word two'
        case $name in mb1.*) append='word  two' ;; esac
        status=0
        rvmm run --engine $engine --bios bios-256k.bin --vgabios vgabios-stdvga.bin --disk disk.img,snapshot=on --memory 64 --timeout 400 \
            --kernel $name --append "$append" --initrd 'one with args,two' \
            --serial file=/mnt/out/$engine.$name.serial --debugcon file=/mnt/out/$engine.$name.debug 2>/mnt/out/$engine.$name.err || status=$?
        echo $status >/mnt/out/$engine.$name.status
    done
    # Nothing comes before a kernel that needs no more than itself.
    rvmm run --engine $engine --memory 64 --timeout 60 --kernel mb2.elf --append 'word two' --initrd 'one with args,two' \
        --serial file=/mnt/out/$engine.plain.serial 2>/mnt/out/$engine.plain.err
    echo $? >/mnt/out/$engine.plain.status
done
SCRIPT
DIR=$work/dir OUT=$work/out TIMEOUT=${TIMEOUT:-1200} CMD="ENGINES='$ENGINES' sh /mnt/dir/run.sh" "$LAB/run.sh"

# Without what is the loader's own affair; the order in which it tells is, too.
compared() { tr -d '\r' <"$1" | grep -av '^#' | sort; }
for engine in $ENGINES; do
    for name in mb1.elf mb1.bin mb1-video.elf mb2.elf mb2-long.elf mb2-video.elf; do
        bad=0
        grep -aq '^magic' "$work/bare/$name.serial" || bad=1
        diff <(compared "$work/bare/$name.serial") <(compared "$work/out/$engine.$name.serial") || bad=1
        [ "$(cat "$work/out/$engine.$name.status")" = 0 ] || bad=1
        [ $bad = 0 ] || tail -n 20 "$work/out/$engine.$name.debug" "$work/out/$engine.$name.err" "$work/bare/$name".*
        verdict $bad "$engine $name"
    done
    bad=0
    [ "$(cat "$work/out/$engine.refused.elf.status")" = 66 ] && grep -q 'flags 0x00001003' "$work/out/$engine.refused.elf.err" || bad=1
    verdict $bad "$engine refused"
    bad=0
    diff <(compared "$work/bare/mb2.elf.serial" | grep -v '^rsdp') <(compared "$work/out/$engine.plain.serial") || bad=1
    [ "$(cat "$work/out/$engine.plain.status")" = 0 ] || bad=1
    verdict $bad "$engine plain"
done
if [ -n "${KEEP:-}" ]; then mkdir -p "$KEEP" && cp -r "$work/bare" "$work/out" "$KEEP/"; fi
verdicts
