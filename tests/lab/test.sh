#!/bin/bash
# Runs the tests that tests/tests.cfg declares: the quick ones, with 'full' all of them, with names only those. Each test's output goes to
# a log that is shown as it runs for 'check' and on failure for the others.
. "$(dirname "$0")/lib.sh"
cd "$LAB_TOP"
"$LAB/setup.sh" host

results=() failed=0
logs=$RVMM_CACHE/log/test
mkdir -p "$logs"
begin=$SECONDS
while read -r name set command <&3; do
    case $name in '' | '#'*) continue ;; esac
    case " $* " in
    *" $name "* | " full ") ;;
    "  ") [ "$set" = quick ] || continue ;;
    *) continue ;;
    esac
    say "test $name: $command"
    start=$SECONDS status=0
    if [ "$name" = check ]; then
        bash -c "$command" 2>&1 </dev/null | tee "$logs/$name.log" || status=$?
    else
        bash -c "$command" >"$logs/$name.log" 2>&1 </dev/null || status=$?
        if [ $status = 0 ]; then tail -n 1 "$logs/$name.log"; else tail -n 60 "$logs/$name.log"; fi
    fi
    if [ $status = 0 ]; then verdict=passed; else verdict=FAILED failed=$((failed + 1)); fi
    results+=("$(printf '  %-16s %-8s %5d s' "$name" $verdict $((SECONDS - start)))")
done 3<tests/tests.cfg

say "tests, with the log of each under $logs:"
printf '%s\n' "${results[@]}"
say "${#results[@]} tests, $failed failed, $((SECONDS - begin)) s"
[ ${#results[@]} != 0 ] && [ $failed = 0 ]
