#!/bin/bash
# Format, lints and host unit tests of all crates; needs no root, lab or kernel tree where cargo is recent enough.
. "$(dirname "$0")/lib.sh"
cd "$LAB_TOP"

# Shown as it runs: its closing lines say how many tests ran.
part() {
    local start=$SECONDS
    say "$1"
    shift
    "$LAB/cargo.sh" "$@"
    say "  ... $((SECONDS - start)) s"
}
part "format" fmt --all --check
part "lints" clippy --quiet --locked --workspace --all-targets -- -D warnings
part "unit tests" test --locked --workspace
