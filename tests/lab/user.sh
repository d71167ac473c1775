#!/bin/bash
# Builds rvmm-user as one static file, which runs in the lab's initramfs and anywhere else, and prints its path.
. "$(dirname "$0")/lib.sh"
cd "$LAB_TOP"
TARGET=x86_64-unknown-linux-gnu
RUSTFLAGS='-C target-feature=+crt-static' "$LAB/cargo.sh" build --quiet --locked -p rvmm-user --release --target $TARGET >&2
echo "${CARGO_TARGET_DIR:-$LAB_TOP/target}/$TARGET/release/rvmm"
