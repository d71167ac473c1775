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
# The micro-guests also run without a lab, on the interpreter and on the engine over a host made of software; where there is no
# compiler for them, those tests say that they skip.
if command -v gcc >/dev/null && make -s -C "$LAB_TOP/tests/guests" OUT="$LAB_TOP/build/guests"; then
    say "micro-guests built"
    # From here on one that is missing is an error.
    export RVMM_GUESTS=built
else
    say "micro-guests NOT built: gcc -m32 is missing"
fi
# The module is no crate of the workspace.
part "format" fmt --all --check -- "$LAB_TOP/rvmm-ko/rvmm_main.rs"
part "lints" clippy --quiet --locked --workspace --all-targets -- -D warnings
part "unit tests" test --locked --workspace
