#!/bin/bash
# Boots the lab and runs CMD in it; ends with CMD's status. Settings come from the environment, as 'make help' lists them:
#   DIR OUT CMD SMP MEM CPU QEMU_ARGS ICOUNT EMU PACKAGES TIMEOUT OUT_SIZE MODULE APPEND INTERACTIVE IMAGES
# IMAGES: lines rw:PATH or ro:PATH, files that become disks of the lab; their serial numbers are image0, image1, …
# Own statuses: 124 the run took longer than TIMEOUT, 125 the lab did not come to CMD's end, 126 the lab kernel complained.
. "$(dirname "$0")/lib.sh"
need_root "$@"

: "${DIR:=}" "${OUT:=}" "${CMD:=}" "${SMP:=2}" "${MEM:=1024}" "${CPU:=}" "${QEMU_ARGS:=}" "${ICOUNT:=}" "${EMU:=qemu}" "${PACKAGES:=}"
: "${IMAGES:=}" "${TIMEOUT:=600}" "${OUT_SIZE:=256M}" "${MODULE:=}" "${APPEND:=}" "${INTERACTIVE:=}"
[ -z "$DIR" ] || [ -d "$DIR" ] || die "DIR=$DIR is no folder"
[ -n "$CMD$INTERACTIVE" ] || die "give CMD='…', what to run in the lab"
case $EMU in qemu | bochs) ;; *) die "EMU=$EMU: only qemu and bochs are known" ;; esac

lab=$("$LAB/initramfs.sh")
tools=$("$LAB/tools-root.sh")
[ -n "$MODULE" ] || MODULE=$("$LAB/module.sh")
rvmm=${RVMM:-$("$LAB/user.sh")}
root_image=
[ -z "$PACKAGES" ] || root_image=$("$LAB/packages.sh" $PACKAGES)

mkdir -p "$RVMM_CACHE/run"
run=$(mktemp -d "$RVMM_CACHE/run/XXXXXX")
# A run that is interrupted takes its emulator along.
job=
trap '[ -z "$job" ] || kill "$job" 2>/dev/null || true; rm -rf "$run"' EXIT

# What differs from run to run: a second archive behind the lab's own.
stage=$run/stage
mkdir -p "$stage"/{bin,lab,mnt/dir,mnt/out}
[ "$rvmm" = none ] || cp "$rvmm" "$stage/bin/rvmm"
[ "$MODULE" = none ] || cp "$MODULE" "$stage/lab/rvmm.ko"
[ -z "$CMD" ] || printf '%s\n' "$CMD" >"$stage/lab/cmd"
[ -z "$DIR" ] || cp -rL "$DIR/." "$stage/mnt/dir/"
truncate -s "$OUT_SIZE" "$run/out.img"
if [ $EMU = qemu ]; then disks=(serial=lab-out serial=lab-root) drivers=virtio_blk; else disks=(/dev/sda /dev/sdb) drivers='ata_piix sd_mod'; fi
cat >"$stage/lab/env" <<EOF
LAB_MODULES='$drivers'
LAB_OUT=${disks[0]}
LAB_ROOT=${root_image:+${disks[1]}}
LAB_LOAD=$([ "$MODULE" = none ] || echo 1)
LAB_INTERACTIVE=$INTERACTIVE
EOF
cp "$lab/lab.cpio" "$run/initrd"
in_root "$tools" -b "$run" sh -euc "cd '$stage'; find . | cpio --quiet -o -H newc -R 0:0 >>'$run/initrd'"
# On a busy machine the emulated timers lag, and the lab's kernel would call its TSC unstable for it: each look at the clock is then an access to the
# emulated HPET, of which rvmm run has two for each exit; or it would panic, because its first ticks came too late.
append="console=ttyS0,115200 panic=-1 $([ $EMU = bochs ] || echo tsc=reliable no_timer_check) $APPEND"
[ -z "$ICOUNT" ] || append+=" nokaslr"

images=() image_binds=()
while IFS= read -r image; do
    [ -n "$image" ] || continue
    [ $EMU = qemu ] || die "only the lab on QEMU takes images"
    number=$((${#images[@]} / 4)) path=${image#*:}
    images+=(-drive "file=${path//,/,,},format=raw,if=none,id=image$number$([ "${image%%:*}" = rw ] || echo ,readonly=on)"
        -device "virtio-blk-pci,drive=image$number,serial=image$number")
    image_binds+=(-b "$path")
done <<<"$IMAGES"

. "$LAB/emulator-$EMU.sh"
emulator+=("${images[@]}")
status=0
if [ -n "$INTERACTIVE" ]; then
    in_root "$tools" -b "$run" ${root_image:+-b "$root_image"} "${image_binds[@]}" "${emulator[@]}" || status=$?
else
    : >"$run/cmd.log"
    : >"$run/console.log"
    tail -q -n +1 -f "$run/cmd.log" --pid=$$ &
    follower=$!
    # The emulator keeps no terminal, so that the command's output is all that is shown.
    # In the place of the background shell, so that a signal to the job reaches the emulator.
    emulate() {
        exec timeout -k 5 "$TIMEOUT" bash -c '. "$1/lib.sh"; shift; in_root "$@"' run "$LAB" "$tools" -b "$run" ${root_image:+-b "$root_image"} "${image_binds[@]}" "${emulator[@]}" \
            </dev/null >"$run/emulator.log" 2>&1
    }
    booted() { grep -q 'Run /init as init' "$run/console.log"; }
    emulate &
    job=$!
    # On a busy machine QEMU was seen to hang in the lab kernel's own boot, long before the module: that run is begun again, once.
    if [ "$EMU" = qemu ]; then
        for _ in $(seq 120); do
            ! booted && kill -0 $job 2>/dev/null || break
            sleep 1
        done
        if ! booted && kill -0 $job 2>/dev/null; then
            say "the lab kernel has not come to its init in 120 s; its console ends so, and it is booted once more:"
            tail -n 2 "$run/console.log" >&2
            kill $job
            wait $job 2>/dev/null || true
            : >"$run/console.log"
            emulate &
            job=$!
        fi
    fi
    wait $job || status=$?
    job=
    sleep 0.2
    kill $follower 2>/dev/null || true
    wait $follower 2>/dev/null || true
fi

# What came out.
mkdir -p "$run/got"
tar -C "$run/got" --no-same-owner -xf "$run/out.img" 2>/dev/null || true
if [ -n "$OUT" ]; then
    mkdir -p "$OUT"
    [ ! -d "$run/got/out" ] || cp -r "$run/got/out/." "$OUT/"
    for log in console.log cmd.log emulator.log got/dmesg; do [ ! -e "$run/$log" ] || cp "$run/$log" "$OUT/lab-$(basename "$log" .log).log"; done
    [ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID" "$OUT"
fi

# The lab kernel's complaints: lines of its own log only, for a guest's console comes by the other line.
COMPLAINTS='WARNING: |BUG: |BUG:|kernel BUG at|Oops|general protection fault|unable to handle|double fault|divide error|stack segment|Kernel panic|soft lockup|hard LOCKUP|self-detected stall|detected stalls|blocked for more than|possible .* (deadlock|locking)|bad page state|sleeping function|scheduling while atomic|refcount_t|Unbalanced|UBSAN|list_(add|del) corruption'
if [ -z "$INTERACTIVE" ]; then
    complaints=$(cat "$run/console.log" "$run/got/dmesg" 2>/dev/null | tr -d '\r' | grep -E '^(<[0-9]>)?\[ *[0-9]+\.[0-9]+\]' | grep -E -m 20 "$COMPLAINTS" | sort -u || true)
    if [ -n "$complaints" ]; then
        say "the lab kernel complained:"
        printf '%s\n' "$complaints" >&2
        say "its log from there on:"
        tr -d '\r' <"$run/console.log" | grep -E -A 60 -m 1 "$COMPLAINTS" >&2 || true
        [ "$status" = 124 ] || exit 126
    fi
fi
case $status in 124 | 137) say "the run took longer than TIMEOUT=$TIMEOUT s and was ended"; tail -n 5 "$run/console.log" >&2; exit 124 ;; esac
if [ ! -e "$run/got/status" ]; then
    say "the lab ended before CMD did; the end of its console and of the emulator's own output:"
    tail -n 15 "$run/console.log" "$run/emulator.log" 2>/dev/null >&2 || true
    exit 125
fi
exit "$(cat "$run/got/status")"
