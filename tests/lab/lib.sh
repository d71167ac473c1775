# Common ground of the lab scripts: paths, progress with durations, roots, package sources. Sourced by bash.
# shellcheck shell=bash

set -euo pipefail

LAB_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB=$LAB_TOP/tests/lab
export RVMM_CACHE=${RVMM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/rvmm}
mkdir -p "$RVMM_CACHE/log" || { echo "rvmm: the cache $RVMM_CACHE cannot be made: set RVMM_CACHE to a folder of yours" >&2; exit 2; }
export LC_ALL=C.UTF-8
# A user has no sbin in the path, and chroot is there.
export PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "rvmm: $*" >&2; }
die() { say "$*"; exit 2; }

# verdict STATUS NAME: counts a comparison that went well (0) or did not. verdicts: says how many, and fails if one did not.
passed=0 failed=0
verdict() {
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        say "$2: differs"
    fi
}
verdicts() {
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
}

# bare_pc DIR SECONDS STATUS OPTION...: a PC in the bare emulator, which sees DIR. The file STATUS gets the guest's own status, as rvmm tells it:
# isa-debug-exit ends the emulator with twice that and one; 0 is the machine switched off.
bare_pc() {
    local dir=$1 seconds=$2 file=$3 status=0
    shift 3
    in_root "$("$LAB/tools-root.sh")" -b "$dir" timeout "$seconds" qemu-system-x86_64 -machine pc -accel tcg -m 64 -nodefaults -vga std -display none \
        -device isa-debug-exit,iobase=0x501,iosize=4 "$@" || status=$?
    [ $((status % 2)) = 0 ] || status=$((status / 2))
    echo $status >"$file"
}

# All that may be set from outside; sudo would drop it.
LAB_SETTINGS='RVMM_CACHE RVMM_CARGO CARGO_TARGET_DIR RUSTFLAGS CI CMD DIR OUT SMP MEM CPU QEMU_ARGS ICOUNT EMU PACKAGES TIMEOUT OUT_SIZE MODULE
    MODULE_OUT RVMM APPEND KDIR GUEST MODEL ENGINE CLOCK SHARE GUESTS RUN_ARGS GUEST_APPEND SECONDS_EACH INTERACTIVE IMAGES DISK CDROM FLOPPY KERNEL INITRD SCREEN ABI_OUT ABI_CMD ENGINES PROGRAMS'

# need_root ARGS...: go on as root, by sudo if it must be. Called first by each script that changes roots or mounts, with the
# script's own arguments.
need_root() {
    local name pass=()
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || die "step '$(basename "$0")' needs root (it builds and enters Debian roots), and there is no sudo: run it as root"
    for name in $LAB_SETTINGS; do [ -z "${!name+set}" ] || pass+=("$name=${!name}"); done
    exec sudo env PATH="$PATH" "${pass[@]}" "$0" "$@"
}

# step NAME COMMAND...: one line of progress with the duration; the output goes to a log, shown only on failure, with the likely cause.
step() {
    local name=$1 log status=0 start=$SECONDS
    shift
    log=$RVMM_CACHE/log/$(printf %s "$name" | tr -c 'a-zA-Z0-9.-' _).log
    if [ -t 2 ]; then printf '  %s ...' "$name" >&2; fi
    # As a job, because "COMMAND || ..." would switch errexit off inside the functions that are steps.
    "$@" >"$log" 2>&1 </dev/null &
    wait $! || status=$?
    if [ -t 2 ]; then printf '\r' >&2; fi
    if [ $status = 0 ]; then
        printf '  %-52s %4d s\n' "$name" $((SECONDS - start)) >&2
        return 0
    fi
    say "step '$name' failed with status $status; the end of its log ($log):"
    tail -n 25 "$log" >&2
    explain_failure "$log"
    exit 2
}

explain_failure() {
    if grep -q 'No space left on device' "$1"; then
        say "the disk is full: the lab needs about 6 GB under $RVMM_CACHE; free some or set RVMM_CACHE to another disk, then run the same command again"
    elif grep -qE 'Could not (resolve|connect)|Temporary failure|Failed to fetch|Connection (timed out|refused)|Unable to connect' "$1"; then
        say "a package source could not be reached: check the network and the system's apt sources ('apt-get update' must work), then run the same command again; finished steps are kept"
    elif grep -qE 'Operation not permitted|Permission denied' "$1"; then
        say "a privilege is missing: the lab needs root with CAP_SYS_ADMIN (chroot, mount); in a container start it privileged, then run the same command again"
    else
        say "after mending the cause run the same command again; finished steps are kept"
    fi
}

# number_in NAME LEAST: the variable NAME is unset, empty, or a whole number, LEAST (0 or 1) or more. Nothing that a guest or a sum would take for another one.
number_in() {
    case ${!1:-1} in
    0) [ "$2" = 0 ] && return ;;
    0* | *[!0-9]*) ;;
    *) return 0 ;;
    esac
    die "$1=${!1}: give a whole number from $2 up"
}

# guest_model GUEST: the model that this guest is for. A guest in long mode can only be in ring 3.
guest_model() {
    case $1 in
    *686*) echo 0/1/3 ;;
    *) echo 0/3/3 ;;
    esac
}

# guest_cpu GUEST ENGINE: the CPU that this guest's kernel is for, as rvmm run --cpu names it. Beside KVM a 64-bit one is AMD's, for which
# 64-bit kernels let 32-bit programs use SYSCALL: of Intel's SYSENTER the lab's KVM, which is on AMD's virtualization, keeps half the
# entry point, expecting the instruction to fault in long mode as on AMD; TCG executes it in compatibility mode.
guest_cpu() {
    case $1,$2 in
    *686-pae,*) echo pae ;;
    *686,*) echo 32 ;;
    *,kvm) echo 64,vendor=AuthenticAMD ;;
    *) echo 64 ;;
    esac
}

# hash_of WORDS AND FILES...: the key of a cached thing; a file counts with its content, a directory with that of its files.
hash_of() {
    local item
    for item; do
        if [ -d "$item" ]; then
            find "$item" -type f -print0 | sort -z | xargs -0r sha256sum | sed "s|  $item|  |"
        elif [ -f "$item" ]; then
            sha256sum <"$item"
        else
            printf '%s\n' "$item"
        fi
    done | sha256sum | cut -c1-16
}

# locked NAME: wait for other runs that make the same cached thing; held until the script ends.
locked() {
    local fd
    exec {fd}>"$RVMM_CACHE/$1.lock"
    flock -n "$fd" || { say "waiting for another run that prepares '$1'"; flock "$fd"; }
}

# debian_mirror: address of the Debian archive that this system is configured to use, whatever the format of its source files.
debian_mirror() {
    local uri
    uri=$(apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Identifier: Packages' | sed -n 's/^Debian|//p' | head -n 1)
    printf '%s' "${uri%/}"
}

# debian_sources SUITE...: one-line apt sources for these suites, from the mirror the system already uses.
debian_sources() {
    local mirror keyring suite
    mirror=$(debian_mirror)
    if [ -z "$mirror" ]; then
        apt-get -qq update >&2 || true
        mirror=$(debian_mirror)
    fi
    [ -n "$mirror" ] || die "no Debian archive among the system's apt sources: configure one, run 'apt-get update' and try again"
    for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        [ -e "$keyring" ] && break
    done
    [ -e "$keyring" ] || die "no Debian archive keys: install the package debian-archive-keyring"
    for suite; do
        printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite"
    done
}

# private_apt DIR ARCH SUITE...: sets APT, the options of an apt of its own under DIR that leaves the system's lists, sources and architectures
# alone; 'apt-get "${APT[@]}" update' comes next.
private_apt() {
    local dir=$1 arch=$2
    shift 2
    mkdir -p "$dir"/etc/preferences.d "$dir"/state/lists/partial "$dir"/cache/archives/partial
    : >"$dir/state/status"
    debian_sources "$@" >"$dir/etc/sources.list"
    APT=(-o Dir::Etc::sourcelist="$dir/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null
        -o Dir::Etc::preferencesparts="$dir/etc/preferences.d" -o Dir::State="$dir/state" -o Dir::State::status="$dir/state/status"
        -o Dir::Cache="$dir/cache" -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root)
}

# make_root DIR PACKAGES SUITE...: a Debian root at DIR, all or nothing.
make_root() {
    local dir=$1 packages=$2 proxy='' tmp
    shift 2
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    tmp=$dir.part
    rm -rf --one-file-system "$tmp"
    debian_sources "$@" >"$dir.list"
    mmdebstrap --variant=apt --mode=root --arch="${ROOT_ARCH:-amd64}" --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        ${DEFAULT_RELEASE:+--aptopt="APT::Default-Release \"$DEFAULT_RELEASE\""} \
        ${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
        --include="$packages" "$1" "$tmp" "$dir.list"
    mv "$tmp" "$dir"
}

# forget_others PREFIX KEPT: remove what earlier states of the tree left in the cache under this prefix. The last hours' are kept, for another
# state of the tree may be using them.
forget_others() {
    local old
    for old in "$RVMM_CACHE/$1"*; do
        case $old in "$2" | "$2".*) continue ;; esac
        if [ -n "$(find "$old" -maxdepth 0 -mmin +180)" ]; then rm -rf --one-file-system "$old"; fi
    done
}

# in_root DIR [-b PATH]... COMMAND...: run in a root with /proc, /dev and /sys, in a mount namespace of its own, so that nothing stays mounted
# whatever happens; each -b PATH appears there under its own name.
in_root() {
    local root=$1 binds=()
    shift
    while [ "$1" = -b ]; do
        binds+=("$2")
        shift 2
    done
    # The inner script sees: root, number of binds, the binds, the command.
    unshare --mount --kill-child --fork bash -euc '
        root=$1 n=$2; shift 2
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --rbind /sys "$root/sys"
        for ((; n > 0; n--)); do
            if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root$(dirname "$1")"; touch "$root$1"; fi
            mount --bind "$1" "$root$1"
            shift
        done
        exec chroot "$root" "$@"
    ' in_root "$root" ${#binds[@]} "${binds[@]}" "$@"
}
