#!/bin/bash
# Runs cargo: the host's own if it is new enough, else the one of the build root.
. "$(dirname "$0")/lib.sh"

OLDEST=1.85
have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ -n "$have" ] && printf '%s\n' $OLDEST "$have" | sort -CV; then exec cargo "$@"; fi

need_root "$@"
root=$("$LAB/build-root.sh")
export CARGO_HOME=${CARGO_HOME:-$RVMM_CACHE/cargo} CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$LAB_TOP/target}
mkdir -p "$CARGO_HOME" "$CARGO_TARGET_DIR"
in_root "$root" -b "$LAB_TOP" -b "$CARGO_HOME" -b "$CARGO_TARGET_DIR" -b /etc/resolv.conf env -C "$PWD" PATH=/usr/bin:/bin cargo "$@"
