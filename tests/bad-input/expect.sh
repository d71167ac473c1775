# What the scripts inside the lab share.
passed=0 failed=0

# expect STATUS TEXT NAME COMMAND...: the command ends with this status, says TEXT (an extended regular expression) on standard error, in a few lines, and the
# module can be taken out afterwards.
expect() {
    want=$1 text=$2 name=$3
    shift 3
    status=0
    timeout -s KILL 120 "$@" </dev/null >/tmp/out 2>/tmp/err || status=$?
    why=
    [ $status = "$want" ] || why="status $status, not $want"
    grep -qE "$text" /tmp/err || why="$why; no '$text' in the message"
    [ "$(wc -l </tmp/err)" -le "${lines:-8}" ] || why="$why; the message has $(wc -l </tmp/err) lines"
    ! grep -qE 'panicked|RUST_BACKTRACE' /tmp/err || why="$why; it panicked"
    users=$(sed -n 's/^rvmm [0-9]* \([0-9]*\) .*/\1/p' /proc/modules)
    [ "${users:-0}" = 0 ] || why="$why; the module is still in use ($users)"
    if [ -z "$why" ]; then
        passed=$((passed + 1))
        echo "ok $name: $(head -n 1 /tmp/err)"
    else
        failed=$((failed + 1))
        echo "FAILED $name: $why"
        sed 's/^/    /' /tmp/err | tail -n 8
    fi
}
