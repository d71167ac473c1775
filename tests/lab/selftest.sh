#!/bin/bash
# The lab's own promises: status, DIR read-only, OUT, a complaining kernel and a run that takes too long. Neither module nor rvmm is needed.
. "$(dirname "$0")/lib.sh"
need_root "$@"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/dir"
echo content >"$work/dir/file"
export MODULE=none RVMM=none DIR=$work/dir OUT= TIMEOUT=500 INTERACTIVE= IMAGES= PACKAGES= EMU=qemu CMD
passed=0

# expect STATUS NAME: run CMD in the lab, whose status must be this one.
expect() {
    local status=0
    "$LAB/run.sh" >"$work/log" 2>&1 </dev/null || status=$?
    if [ $status != "$1" ]; then
        cat "$work/log"
        die "FAILED $2: status $status, not $1"
    fi
    echo "ok $2"
    passed=$((passed + 1))
}

CMD='exit 7' expect 7 "the command's status comes out"
CMD='[ "$(cat /mnt/dir/file)" = content ] && ! touch /mnt/dir/new && echo hello >/mnt/out/said' OUT=$work/out expect 0 "DIR is read-only, OUT comes back"
[ "$(cat "$work/out/said")" = hello ] || die "FAILED: OUT did not come back"
head -c 1M /dev/urandom >"$work/image"
cp "$work/image" "$work/before"
rm -r "$work/out"
CMD='grep -l image0 /sys/block/vd*/serial && echo hello >/mnt/out/said' IMAGES="rw:$work/image" OUT=$work/out expect 0 "an image is a disk of its own"
{ [ "$(cat "$work/out/said")" = hello ] && cmp "$work/image" "$work/before"; } || die "FAILED: an image took what was to come out"
CMD='echo "WARNING: on purpose" >/dev/kmsg' expect 126 "a warning of the lab kernel fails the run"
CMD='echo c >/proc/sysrq-trigger' expect 126 "a panic of the lab kernel fails the run"
CMD='poweroff -f' expect 125 "a lab that ends before its command fails the run"
TIMEOUT=12 CMD='sleep 100' expect 124 "a run that takes too long is ended"
DIR=$work/nowhere CMD=true expect 2 "a missing DIR is said"
EMU=bochs CMD='grep -q icelake /proc/cpuinfo || grep -m 1 "model name" /proc/cpuinfo; exit 5' expect 5 "the same on Bochs"
echo "$passed passed, 0 failed"
