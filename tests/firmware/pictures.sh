#!/bin/sh
# Looks on: whenever the machine has written "picture MODE" to DIR/serial, puts its screen into DIR/MODE.ppm and types a key. Ends with the
# machine's status.
#   pictures.sh DIR MACHINE...     MACHINE has its monitor (QMP) at DIR/monitor, COM1 at DIR/serial
dir=$1
shift
: >"$dir/serial"
"$@" &
machine=$!
seen=0
while kill -0 $machine 2>/dev/null; do
    mode=$(tail -n +$((seen + 1)) "$dir/serial" | sed -n 's/^picture \([0-9a-f]*\) $/\1/p' | head -n 1)
    if [ -n "$mode" ]; then
        seen=$((seen + 1))
        rvmm monitor --monitor "$dir/monitor" screendump "$dir/$mode.ppm"
        rvmm monitor --monitor "$dir/monitor" sendkey ret
    else
        sleep 0.3
    fi
done >/dev/null 2>&1
status=0
wait $machine || status=$?
exit $status
