# What the tests of the Debian guest share. Sourced by bash.
# shellcheck shell=bash source=../lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lab/lib.sh"
LINUX=$LAB_TOP/tests/linux
GUEST=${GUEST:-debian-686} MODEL=${MODEL:-$(guest_model "${GUEST:-debian-686}")}
export GUEST MODEL

# ok WHAT, bad WHAT: what one thing looked at came to. verdict: the last line, and the status.
passed=0 failed=0
ok() { echo "ok $*"; passed=$((passed + 1)); }
bad() { echo "FAILED $*"; failed=$((failed + 1)); }
verdict() {
    echo "$passed passed, $failed failed"
    [ $((passed > 0 && failed == 0)) = 1 ]
}

# chosen_guests DEFAULT...: sets guests to the words of GUESTS. Each name is judged by guest-debian.sh.
chosen_guests() {
    read -ra guests <<<"${GUESTS:-$*}"
    [ ${#guests[@]} != 0 ] || die "GUESTS is blank: name at least one guest"
    [ "$(printf '%s\n' "${guests[@]}" | sort -u | wc -l)" = ${#guests[@]} ] || die "GUESTS='${guests[*]}' names a guest twice"
    number_in SHARE 1
    number_in SECONDS_EACH 1
}

# self_checked GUEST WHAT DIR: did the guest whose status, console and messages (of rvmm) are in DIR pass its self-check?
self_checked() {
    local status
    status=$(cat "$3/status" 2>/dev/null || echo unknown)
    if [ "$status" = 0 ] && grep -qa 'self-check passed' "$3/console" && ! grep -a FAILED "$3/console"; then
        ok "$1$2: $(tr -d '\r' <"$3/console" | grep -a 'self-check passed'), status 0"
    else
        bad "$1$2: status $status; the end of its console and what rvmm said:"
        tail -n 12 "$3/console" "$3/messages" || true
    fi
}

# stage_guest DIR: the guest's vmlinuz and its initrd.img, with what the tests here add to it: a first process, by rdinit=/linux-test.
stage_guest() {
    local guest overlay
    guest=$("$LAB/guest-debian.sh" "$GUEST")
    overlay=$("$LINUX/guest.sh" "$GUEST")
    cp "$guest/vmlinuz" "$1/"
    cat "$guest/initrd.img" "$overlay" >"$1/initrd.img"
}
