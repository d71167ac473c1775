#!/bin/sh
# Run micro-guests under rvmm, inside the lab (busybox sh). The images, list.cfg and common.sh lie beside this script.
#   run-in-lab.sh [--emu tcg|bochs] [--out DIR] [--patience N] [NAME ...] [-- RVMM-RUN-OPTIONS]
# --patience: guests may take N times as long as the list says. Without names: those of the list that belong to the emulator the lab runs on (default tcg).
# OUT/NAME.txt gets what run-bare would write for the same image, OUT/NAME.err what rvmm itself said.
set -u
here=$(cd "$(dirname "$0")" && pwd)
LIST=$here/list.cfg
. "$here/common.sh"

out=/mnt/out emu=tcg patience=1 names= rvmm=${RVMM:-rvmm}
while [ $# -gt 0 ]; do
	case $1 in
	--out) out=$2; shift 2 ;;
	--emu) emu=$2; shift 2 ;;
	--patience) patience=$2; shift 2 ;;
	--) shift; break ;;
	-*) echo "usage: run-in-lab.sh [--emu tcg|bochs] [--out DIR] [--patience N] [NAME ...] [-- RVMM-RUN-OPTIONS]" >&2; exit 2 ;;
	*) names="$names $1"; shift ;;
	esac
done
mkdir -p "$out"
[ -n "$names" ] || names=$(names_for "$emu")

total=0 odd=0
for name in $names; do
	seconds=$(($(option "$name" timeout 30) * patience))
	[ "$(option "$name" end exit)" != spin ] || seconds=3
	append=$(option "$name" append '')
	cpu=$(option "$name" bits 32)
	vendor=$(option "$name" vendor '')
	status=0
	timeout -s INT -k 5 "$seconds" "$rvmm" run --kernel "$here/$name.elf" --cpu "$cpu${vendor:+,vendor=$vendor}" --memory "$(option "$name" memory 64)" \
		${append:+--append "$append"} --serial stdio "$@" < /dev/null > "$out/$name.raw" 2> "$out/$name.err" || status=$?
	end=$(end_of_rvmm "$name" "$status")
	{ tidy < "$out/$name.raw"; echo "end: $end"; } > "$out/$name.txt"
	rm -f "$out/$name.raw"
	total=$((total + 1))
	echo "$name $end" >> "$out/progress"
	case $end in
	status* | timeout) odd=$((odd + 1)); echo "$name: $end: $(tail -n 1 "$out/$name.err")" ;;
	esac
done
echo "$total guests run, $odd ended in an unexpected way"
