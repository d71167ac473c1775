#!/bin/sh
# The differential test: every micro-guest under rvmm, in the lab, must print what it prints on the bare emulator.
#   [GUESTS='NAME ...'] [OUT=DIR] [TIMEOUT=SECONDS] test.sh [VARIANT ...]      default: all guests; verify, int3, default
# A variant is a way to run rvmm: interpret (nothing directly), int3 (no jumps), default, verify; or bochs: the guests whose row is
# wrong in TCG and two that read their own code, with the lab itself on Bochs. They run the 32-bit guests under the model 0/1/3, and the 64-bit ones. ring3 is the
# default for the 32-bit guests under 0/3/3; ring3-VARIANT another one. Ends with one line "N passed, N failed" over all variants.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${OUT:-$top/build/guests-rvmm}
LIST=$here/list.cfg
. "$here/common.sh"

for name in ${GUESTS:-}; do
	listed "$name" || { echo "test.sh: no guest '$name' in list.cfg" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- verify int3 default
command= show= emulator=qemu names=${GUESTS:-$(names_for tcg)}
for variant; do
	case $variant in
	ring3) way=default model=0/3/3 ;;
	ring3-*) way=${variant#ring3-} model=0/3/3 ;;
	*) way=$variant model=0/1/3 ;;
	esac
	# The list's times are those of guests that run on the CPU.
	patience=1
	case $way in
	interpret) options=--interpret-all patience=10 ;;
	int3) options=--tactics=int3 ;;
	default) options= ;;
	verify) options=--verify=100 ;;
	bochs)
		[ $# -eq 1 ] || { echo "test.sh: the variant $variant stands alone" >&2; exit 2; }
		options="--verify" emulator=bochs names=${GUESTS:-$(names_for bochs) read-own-text code-data-mix} ;;
	*) echo "test.sh: no variant '$variant'" >&2; exit 2 ;;
	esac
	[ "$model" = 0/1/3 ] || options="$options --model $model"
	for name in $names; do
		runs_in "$name" "$model" || continue
		[ "$(option "$name" skip '')" = "$way" ] || echo "$name"
	done > "$work/$variant"
	# Every other guest at the same time: the lab has two CPUs (on Bochs one).
	[ "$emulator" = qemu ] && halves='0 1' || halves=all
	for half in $halves; do
		guests=$(awk -v half="$half" 'half == "all" || NR % 2 == half' ORS=' ' "$work/$variant")
		[ -n "$guests" ] || continue
		command="$command sh run-in-lab.sh --out /mnt/out/$variant --patience $patience $guests -- $options > /tmp/$variant.$half.log 2>&1 &"
		show="$show echo $variant:; cat /tmp/$variant.$half.log;"
	done
	command="$command wait;"
done

# One that runs nothing shows nothing: GUESTS of the other model or emulator, or skipped.
cat "$work"/* | grep -q . || { echo "test.sh: none of '$names' is for $*" >&2; exit 2; }
make -s -C "$here" OUT="$top/build/guests"
rm -rf "$out"
make -s -C "$top" lab-run DIR="$top/build/guests" OUT="$out" CMD="$command $show" EMU="$emulator" TIMEOUT="${TIMEOUT:-1500}"

passed=0 failed=0
for variant; do
	echo "--- $variant"
	[ -s "$work/$variant" ] || { echo "no guest of these"; continue; }
	# shellcheck disable=SC2086
	"$here/compare" "$here/expected" "$out/$variant" $(cat "$work/$variant") > "$out/$variant.diff" || true
	cat "$out/$variant.diff"
	last=$(tail -n 1 "$out/$variant.diff")
	passed=$((passed + ${last%% *}))
	last=${last#*, }
	failed=$((failed + ${last%% *}))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
