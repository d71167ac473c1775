#!/bin/bash
# Runs the tests that tests/tests.cfg declares: the quick ones, with 'full' all of them, with names only those. Tests begin in its order, each
# as soon as the CPUs it uses are free: JOBS=1 runs one after another. Each test's output goes to a log; that of 'check' is shown as it runs,
# of the others the last line when one ends, or what a failed one said last.
. "$(dirname "$0")/lib.sh"
cd "$LAB_TOP"
number_in JOBS 1
if [ -z "${JOBS:-}" ]; then JOBS=$(nproc) && [ "$JOBS" -le 4 ] || JOBS=4; fi
"$LAB/setup.sh" host

logs=$RVMM_CACHE/log/test
mkdir -p "$logs"
begin=$SECONDS failed=0 free=$JOBS
results=()
# Of the tests that run, by process: name, CPUs, when it began.
declare -A names=() cpus=() began=()

# A process group for each test, so that all of it can be ended.
set -m
end_all() {
    local pid
    for pid in "${!names[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
}
trap 'say "interrupted: ending ${names[*]}"; end_all; exit 130' INT TERM HUP

# begin_test NAME CPUS COMMAND
begin_test() {
    say "test $1: $3"
    if [ "$1" = check ]; then
        bash -o pipefail -c '{ '"$3"'; } 2>&1 | tee "$0"' "$logs/$1.log" </dev/null &
    else
        bash -c "$3" >"$logs/$1.log" 2>&1 </dev/null &
    fi
    names[$!]=$1 cpus[$!]=$2 began[$!]=$SECONDS
    free=$((free - $2))
}

# end_test: waits for one, and says how it went.
end_test() {
    local pid status=0 verdict=passed name
    wait -n -p pid "${!names[@]}" || status=$?
    name=${names[$pid]}
    if [ $status != 0 ]; then
        verdict=FAILED failed=$((failed + 1))
    fi
    say "test $name $verdict:"
    if [ $status = 0 ] || [ "$name" = check ]; then tail -n 1 "$logs/$name.log"; else tail -n 60 "$logs/$name.log"; fi
    results+=("$(printf '  %-16s %-8s %5d s' "$name" $verdict $((SECONDS - began[$pid])))")
    free=$((free + cpus[$pid]))
    unset "names[$pid]" "cpus[$pid]" "began[$pid]"
}

while read -r name set uses command <&3; do
    case $name in '' | '#'*) continue ;; esac
    case " $* " in
    *" $name "* | " full ") ;;
    "  ") [ "$set" = quick ] || continue ;;
    *) continue ;;
    esac
    # Those that need more share folders, too: they run alone.
    [ "$uses" = 1 ] || uses=$JOBS
    while [ "$free" -lt "$uses" ]; do end_test; done
    begin_test "$name" "$uses" "$command" 3<&-
done 3<tests/tests.cfg
while [ ${#names[@]} != 0 ]; do end_test; done

say "tests, with the log of each under $logs:"
printf '%s\n' "${results[@]}"
say "${#results[@]} tests, $failed failed, $((SECONDS - begin)) s"
[ ${#results[@]} != 0 ] && [ $failed = 0 ]
