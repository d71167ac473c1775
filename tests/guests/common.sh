# Shell functions shared by the runners; POSIX sh, so that busybox can read it. Needs $LIST.

# Print the names in the list, one per line.
list_names() {
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$LIST" | while read -r name _; do echo "$name"; done
}

# option NAME KEY DEFAULT: the value of KEY in NAME's line.
option() {
	sed -e 's/#.*//' "$LIST" | while read -r name rest; do
		[ "$name" = "$1" ] || continue
		for word in $rest; do
			case $word in "$2="*) echo "${word#*=}"; exit ;; esac
		done
		echo "$3"
		exit
	done
}

# names_for EMULATOR: the names whose output that emulator gives.
names_for() {
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$LIST" | while read -r one rest; do
		case " $rest " in *" emu=bochs "*) with=bochs ;; *) with=tcg ;; esac
		if [ "$with" = "$1" ]; then echo "$one"; fi
	done
}

# runs_in NAME MODEL: does it run under that model? 64-bit guests are a case of their own: in long mode the model is always 0/3/3, so they
# belong to the runs without --model.
runs_in() {
	case $(option "$1" bits 32) in
	64) [ "$2" = 0/1/3 ] ;;
	*) case ,$(option "$1" models 0/1/3,0/3/3), in *",$2,"*) ;; *) return 1 ;; esac ;;
	esac
}

# listed NAME: is it in the list?
listed() {
	list_names | grep -qx -- "$1"
}

# tidy < raw: serial output without carriage returns.
tidy() {
	tr -d '\r'
}

# end_of_bare NAME STATUS: how a run on the bare emulator ended, from QEMU's status.
end_of_bare() {
	case $(option "$1" end exit)\ $2 in
	exit\ *[13579]) echo "exit $(($2 >> 1))" ;;
	triple\ 0 | reset\ 0) echo reset ;;
	halt\ 124 | spin\ 124 | halt\ 137 | spin\ 137) echo never ;;
	*\ 124 | *\ 137) echo timeout ;;
	*) echo "status $2" ;;
	esac
}

# end_of_rvmm NAME STATUS: the same from the status of `rvmm run`, which tells these ends apart.
end_of_rvmm() {
	case $(option "$1" end exit)\ $2 in
	exit\ [0-9] | exit\ [0-5][0-9] | exit\ 6[0-3]) echo "exit $2" ;;
	triple\ 81 | reset\ 80) echo reset ;;
	halt\ 82 | spin\ 130 | spin\ 124) echo never ;;
	stop\ 70 | stop\ 81) echo stopped ;;
	*\ 124 | *\ 130 | *\ 137 | *\ 143) echo timeout ;;
	*) echo "status $2" ;;
	esac
}
