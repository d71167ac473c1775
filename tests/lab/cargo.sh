#!/bin/bash
# Runs cargo: the host's own if it is complete and new enough, else the one of the build root. RVMM_CARGO=root asks for the latter, which is
# the oldest compiler that must accept the code.
. "$(dirname "$0")/lib.sh"

OLDEST=1.85
complete() { cargo fmt --version && cargo clippy --version; }
have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ "${RVMM_CARGO:-}" != root ] && [ -n "$have" ] && printf '%s\n' $OLDEST "$have" | sort -CV && complete >/dev/null 2>&1; then exec cargo "$@"; fi

need_root "$@"
root=$("$LAB/build-root.sh")
export CARGO_HOME=${CARGO_HOME:-$RVMM_CACHE/cargo}
target=${CARGO_TARGET_DIR:-$LAB_TOP/target}
mkdir -p "$CARGO_HOME" "$target"
certificates=/etc/ssl/certs/ca-certificates.crt
[ -e $certificates ] && binds=(-b $certificates) || binds=()
in_root "$root" -b "$LAB_TOP" -b "$CARGO_HOME" -b "$target" -b /etc/resolv.conf "${binds[@]}" \
    env -C "$PWD" PATH=/usr/bin:/bin CARGO_TARGET_DIR="$target" cargo "$@"
