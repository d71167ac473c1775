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

# listed NAME: is it in the list?
listed() {
	list_names | grep -qx -- "$1"
}

# tidy < raw: serial output without carriage returns.
tidy() {
	tr -d '\r'
}

# end_of_rvmm STATUS: how a run ended, in run-bare's words, from the status of `rvmm run`.
end_of_rvmm() {
	case $1 in
	124 | 137 | 143) echo timeout ;;
	*) echo "exit $1" ;;
	esac
}
