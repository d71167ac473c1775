#!/bin/sh
# Talks with a program by its standard input and output: waits for each prompt before it answers. Ends with the program's status.
#   talk.sh SCRIPT OUTPUT PROGRAM...     SCRIPT has lines 'PROMPT|ANSWER'; \r, \n and \e in an answer are these characters
script=$1 output=$2
shift 2
pipe=$(mktemp -u)
mkfifo "$pipe"
"$@" <"$pipe" >"$output" &
program=$!
exec 3>"$pipe"
rm "$pipe"
seen=0
while IFS='|' read -r prompt answer; do
    # Behind what earlier answers have brought.
    until tail -c +$((seen + 1)) "$output" | grep -q -F -e "$prompt"; do
        kill -0 $program 2>/dev/null || break 2
        sleep 0.3
    done
    seen=$(wc -c <"$output")
    printf '%b' "$answer" >&3
done <"$script"
status=0
wait $program || status=$?
exec 3>&-
exit $status
