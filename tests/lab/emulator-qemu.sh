# The lab on QEMU: sets the array emulator. Sourced by run.sh.
# shellcheck shell=bash disable=SC2154

# Without FSRM, because the kernel then copies with plain moves: TCG runs "rep movsb" byte by byte, which made memcpy 30 % of an interpreting run.
emulator=(qemu-system-x86_64 -machine pc -cpu "${CPU:-max,-fsrm}" -m "$MEM" -no-reboot -nodefaults -display none -net none
    -kernel "$run/vmlinuz" -initrd "$run/initrd" -append "$append"
    -drive "file=$run/out.img,format=raw,if=none,id=out,cache=unsafe" -device virtio-blk-pci,drive=out,serial=lab-out)
cp "$lab/vmlinuz" "$run/vmlinuz"
[ -z "$root_image" ] || emulator+=(-drive "file=$root_image,format=raw,if=none,id=root,snapshot=on" -device virtio-blk-pci,drive=root,serial=lab-root)
if [ -n "$ICOUNT" ]; then
    emulator+=(-accel tcg,thread=single -icount shift=0,sleep=off -smp 1)
else
    emulator+=(-accel tcg,thread=multi -smp "$SMP")
fi
if [ -n "$INTERACTIVE" ]; then
    # QEMU's own escape key is Ctrl-] here: Ctrl-A is rvmm's.
    emulator+=(-serial mon:stdio -echr 0x1d)
else
    emulator+=(-serial "file:$run/console.log" -serial "file:$run/cmd.log")
fi
# shellcheck disable=SC2206 # several words are meant
emulator+=($QEMU_ARGS)
