#!/bin/bash
# Runs cargo: the host's own if it is complete and new enough, else that of the Rust root, which RVMM_CARGO=root asks for in any case.
. "$(dirname "$0")/lib.sh"

# Under sudo cargo runs as who called it, with that user's toolchain, registry and ownership of target/.
if [ "$(id -u)" = 0 ] && [ "${SUDO_USER:-root}" != root ] && [ -z "${RVMM_IN_ROOT:-}" ]; then
    exec sudo -H -u "$SUDO_USER" env PATH="$PATH" RVMM_CACHE="$RVMM_CACHE" RUSTFLAGS="${RUSTFLAGS:-}" RVMM_CARGO="${RVMM_CARGO:-}" \
        ${CARGO_TARGET_DIR:+CARGO_TARGET_DIR="$CARGO_TARGET_DIR"} "$0" "$@"
fi

# What rvmm-user's dependencies ask for; the module's own crates are built by the lab kernel's 1.85 as well.
OLDEST=1.88
complete() { cargo fmt --version && cargo clippy --version; }
have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ "${RVMM_CARGO:-}" != root ] && [ -n "$have" ] && printf '%s\n' $OLDEST "$have" | sort -CV && complete >/dev/null 2>&1; then exec cargo "$@"; fi

# The way back up, if cargo was called by a user or came down to one.
[ "$(id -u)" = 0 ] || exec sudo env PATH="$PATH" RVMM_IN_ROOT=1 RVMM_CACHE="$RVMM_CACHE" RUSTFLAGS="${RUSTFLAGS:-}" RVMM_CARGO=root "$0" "$@"
root=$("$LAB/rust-root.sh")
export CARGO_HOME=${CARGO_HOME:-$RVMM_CACHE/cargo}
target=${CARGO_TARGET_DIR:-$LAB_TOP/target}
mkdir -p "$CARGO_HOME" "$target"
certificates=/etc/ssl/certs/ca-certificates.crt
binds=()
[ ! -e $certificates ] || binds=(-b "$certificates")
in_root "$root" -b "$LAB_TOP" -b "$CARGO_HOME" -b "$target" -b /etc/resolv.conf "${binds[@]}" \
    env -C "$PWD" PATH=/usr/bin:/bin CARGO_TARGET_DIR="$target" cargo "$@"
