#!/bin/sh
# Looks on: waits until the machine has written TEXT to DIR/WHERE, puts its text screen into DIR/screen, and ends it through its monitor. Ends
# with the machine's status.
#   screen.sh DIR WHERE TEXT MACHINE...     MACHINE has its monitor (QMP) at DIR/monitor, COM1 or port 402 at DIR/WHERE
dir=$1 where=$2 text=$3
shift 3
: >"$dir/screen"
"$@" &
machine=$!
until grep -q -F -e "$text" "$dir/$where" 2>/dev/null; do
    kill -0 $machine 2>/dev/null || break
    sleep 0.3
done
monitor() { rvmm monitor --monitor "$dir/monitor" "$@"; }
if kill -0 $machine 2>/dev/null; then
    # rvmm shows the text, QEMU its memory: 80 by 25 characters with attributes.
    case $(monitor '{"execute":"query-version"}') in
    *rvmm*) monitor info screen ;;
    *)
        monitor "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":$((0xB8000)),\"size\":4000,\"filename\":\"$dir/memory\"}}" >/dev/null
        od -An -v -t u1 -w2 "$dir/memory" | awk '{ printf "%c", $1 ? $1 : 32 } NR % 80 == 0 { print "" }'
        ;;
    esac | tr -d '\r' | sed 's/ *$//' >"$dir/screen"
    monitor quit >/dev/null
fi
status=0
wait $machine || status=$?
exit $status
