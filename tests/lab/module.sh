#!/bin/bash
# Builds rvmm.ko and prints its path: in the build root for the lab kernel, or with KDIR= against a kernel tree of this machine.
# Only what changed is compiled again.
. "$(dirname "$0")/lib.sh"
KDIR=${KDIR:-}
[ -e "$LAB_TOP/rvmm-ko/rvmm_main.rs" ] || die "there is no rvmm-ko/rvmm_main.rs, so no module to build"

out=${MODULE_OUT:-$RVMM_CACHE/module-$(printf '%s|%s' "$LAB_TOP" "$KDIR" | sha256sum | cut -c1-8)}
# kbuild talks on stdout, which here is for the path alone.
build='make -s -C "$1" M="$2" MO="$3" RVMM_CRATES="$4" -j"$(nproc)" modules && strip --strip-debug -o "$3/stripped/rvmm.ko" "$3/rvmm.ko"'

if [ -z "$KDIR" ] || [ ! -e "$KDIR/rust/libkernel.rmeta" ]; then
    need_root
    root=$("$LAB/build-root.sh")
    release=$(cat "$root/.release")
    if [ -n "$KDIR" ]; then
        asked=$(make -s -C "$KDIR" kernelrelease 2>/dev/null || true)
        [ "$asked" = "$release" ] || die "KDIR=$KDIR is for kernel '$asked' and lacks the Rust half (rust/libkernel.rmeta), which Debian does not package: give a CONFIG_RUST=y tree after 'make modules_prepare', or boot Debian's linux-image-$release, which 'make module' builds for"
    fi
fi
crates=$("$LAB/crates.sh")
mkdir -p "$out/stripped"
locked "$(basename "$out")"
before=$(stat -c %Y "$out/rvmm.ko" 2>/dev/null || true)
if [ -n "${root:-}" ]; then
    in_root "$root" -b "$LAB_TOP" -b "$crates" -b "$out" sh -euc "$build" module "/usr/src/linux-headers-$release" "$LAB_TOP" "$out" "$crates" >&2
else
    sh -euc "$build" module "$KDIR" "$LAB_TOP" "$out" "$crates" >&2
fi
# A module that is new is looked at for large frames. Without objdump on this machine (KDIR=) it is not.
if [ "$before" != "$(stat -c %Y "$out/rvmm.ko")" ]; then
    disassembly=(objdump -d --no-show-raw-insn "$out/stripped/rvmm.ko")
    if [ -n "${root:-}" ]; then
        in_root "$root" -b "$out" "${disassembly[@]}" | "$LAB/frames.sh" || { rm "$out/rvmm.ko"; exit 1; }
    elif command -v objdump >/dev/null; then
        "${disassembly[@]}" | "$LAB/frames.sh" || { rm "$out/rvmm.ko"; exit 1; }
    fi
fi
echo "$out/stripped/rvmm.ko"
