#!/bin/bash
# Gathers the third-party sources that go into the module, at Cargo.lock's versions, under names without a version. Prints the folder.
. "$(dirname "$0")/lib.sh"

CRATES='iced-x86 spin lazy_static bitflags'

# The newest where the lock has several: the module's crates want bitflags 2, some program of rvmm-user's may want 1.
locked_version() { awk -v n="\"$1\"" '$1 == "name" { hit = $3 == n } hit && $1 == "version" { gsub(/"/, "", $3); v = $3 } END { print v }' "$LAB_TOP/Cargo.lock"; }

wanted=()
for crate in $CRATES; do wanted+=("$crate-$(locked_version "$crate")"); done
dir=$RVMM_CACHE/crates-$(hash_of "$LAB/crates.sh" "${wanted[@]}")
if [ ! -e "$dir/.ready" ]; then
    metadata=$RVMM_CACHE/log/metadata.json
    (cd "$LAB_TOP" && "$LAB/cargo.sh" metadata --locked --format-version 1) >"$metadata" 2>"$metadata.err" || {
        tail -n 5 "$metadata.err" >&2
        die "the sources of the Rust dependencies cannot be had: check the network and cargo's registry settings, and that Cargo.lock is current; then run the same command again"
    }
    rm -rf "$dir"
    mkdir -p "$dir"
    for crate in "${wanted[@]}"; do
        manifest=$(grep -o "\"manifest_path\":\"[^\"]*/$crate/Cargo.toml\"" "$metadata" | head -n 1 | cut -d'"' -f4)
        cp -r "$(dirname "$manifest")" "$dir/${crate%-*}"
    done
    touch "$dir/.ready"
fi
echo "$dir"
