#!/bin/bash
# Makes the Rust root, for machines whose own cargo is missing or too old: Debian 13 with the newest Rust of its backports. Prints its path.
. "$(dirname "$0")/lib.sh"
need_root "$@"

TOOLS=cargo,rustc,rust-clippy,rustfmt,gcc,libc6-dev,ca-certificates

root=$RVMM_CACHE/rust-$(hash_of "$LAB/rust-root.sh")
[ -e "$root/.ready" ] && { echo "$root"; exit; }
locked rust
[ -e "$root/.ready" ] && { echo "$root"; exit; }

install() {
    rm -rf --one-file-system "$root"
    DEFAULT_RELEASE=trixie-backports make_root "$root" "$TOOLS" trixie trixie-backports
    rm -rf "$root"/var/cache/apt/archives/*.deb
    touch "$root/.ready"
}
step "install a Rust toolchain" install
forget_others rust- "$root"
echo "$root"
