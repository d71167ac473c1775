# The lab on Bochs, which enforces segment limits and has a real TLB: sets the array emulator. Sourced by run.sh.
# The kernel comes from an ISO with GRUB, the disks are ATA, and Bochs ends with a "panic" when the lab powers off.
# shellcheck shell=bash disable=SC2154

[ -z "$INTERACTIVE" ] || die "EMU=bochs has no interactive terminal: use EMU=qemu, or CMD="
# Bochs wants whole cylinders of 16 heads and 63 sectors.
cylinder=$((16 * 63 * 512))
size=$(stat -c %s "$run/out.img")
truncate -s $(((size + cylinder - 1) / cylinder * cylinder)) "$run/out.img"

mkdir -p "$run/iso/boot/grub"
ln "$lab/vmlinuz" "$run/iso/boot/vmlinuz" 2>/dev/null || cp "$lab/vmlinuz" "$run/iso/boot/vmlinuz"
mv "$run/initrd" "$run/iso/boot/initrd"
cat >"$run/iso/boot/grub/grub.cfg" <<EOF
set timeout=0
menuentry lab {
    linux /boot/vmlinuz $append no5lvl
    initrd /boot/initrd
}
EOF
in_root "$tools" -b "$run" grub-mkrescue -o "$run/lab.iso" "$run/iso" >"$run/iso.log" 2>&1 || { cat "$run/iso.log" >&2; die "grub-mkrescue failed"; }
rm -r "$run/iso"

cat >"$run/bochsrc" <<EOF
cpu: model=${CPU:-corei7_icelake_u}, count=1, ips=${IPS:-100000000}, reset_on_triple_fault=0
clock: sync=none, time0=utc
memory: guest=$MEM, host=$MEM
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
display_library: term
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path=$run/out.img
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path=$run/lab.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$run/console.log
com2: enabled=1, mode=file, dev=$run/cmd.log
log: $run/bochs.log
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
sound: driver=dummy
speaker: enabled=0
EOF
if [ -n "$root_image" ]; then
    # Volatile: what the run writes is dropped.
    echo "ata0-slave: type=disk, mode=volatile, path=$root_image, journal=$run/journal" >>"$run/bochsrc"
fi
# Its only display without a window or a port wants a terminal, and writes the screen to another one that it opens and names. Somebody must read
# there: Bochs waits for ever once that is full.
# shellcheck disable=SC2016
emulator=(env TERM=xterm bash -c 'script -qec "bochs -f \"$1\"" /dev/null | while IFS= read -r line; do
    printf "%s\n" "$line"
    case $line in *"connected to screen"*) line=${line#*\"} && cat "${line%%\"*}" >/dev/null 2>&1 & ;; esac
done
exit "${PIPESTATUS[0]}"' bochs "$run/bochsrc")
