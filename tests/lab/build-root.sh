#!/bin/bash
# Makes the build root: Debian 13 with the lab kernel's headers, its compilers and the Rust half of the kernel tree, which Debian does not
# package. Prints the root's path. See docs/testing.md.
. "$(dirname "$0")/lib.sh"
need_root "$@"

SERIES=7.2
TESTED=7.2.12-1~bpo13+1
TOOLS=gcc-14,make,bison,flex,bc,python3-minimal,libelf-dev,libssl-dev,rustc,rust-src,bindgen,kmod,xz-utils

key=$(hash_of "$LAB/build-root.sh" "$TESTED" "$TOOLS")
root=$RVMM_CACHE/build-$key
[ -e "$root/.ready" ] && { echo "$root"; exit; }
locked build
[ -e "$root/.ready" ] && { echo "$root"; exit; }
say "preparing the build root (about 3 minutes, once)"

# The tested version if it is still there, then every other one of the series, newest first.
versions() {
    local all
    all=$(apt-cache "${APT[@]}" madison linux-source-$SERIES | awk '{ print $3 }' | sort -rVu)
    grep -Fx "$TESTED" <<<"$all" || true
    grep -Fxv "$TESTED" <<<"$all" || true
}

install() {
    rm -rf --one-file-system "$1"
    make_root "$1" "$2" trixie trixie-backports
    echo "$3" >"$1/.installed"
}

unpack_source() {
    cd "$1/usr/src"
    rm -rf linux-source-$SERIES
    # What modules_prepare and rust/ never read; it is most of the tree.
    tar -xf linux-source-$SERIES.tar.xz --exclude='*/drivers/*.c' --exclude='*/drivers/*.rs' --exclude='*/drivers/gpu/*.h' --exclude='*/sound/*.[ch]' \
        --exclude='*/fs/*.c' --exclude='*/net/*.c' --exclude='*/Documentation/*/*' --exclude='*/tools/testing/*' --exclude='*/tools/perf/*' \
        --exclude='*/arch/a[lr]*/*.[chS]' --exclude='*/arch/[c-tv-w]*/*.[chS]' --exclude='*/arch/xtensa*/*.[chS]' --exclude='*.dts*'
}

configure_source() {
    local headers=/usr/src/linux-headers-$2
    in_root "$1" sh -euc "cd /usr/src/linux-source-$SERIES
        cp $headers/.config $headers/.kernelvariables .
        make olddefconfig && make rustavailable"
}

build_rust_half() { in_root "$1" make -C "/usr/src/linux-source-$SERIES" -j"$(nproc)" modules_prepare; }

# Each symbol that the Rust half exports must be one of the stock kernel's: otherwise the module would link against another kernel.
check_symbols() {
    local src=$1/usr/src/linux-source-$SERIES stock=$1/usr/src/linux-headers-$2/Module.symvers wanted
    wanted=$(mktemp)
    sed -n 's/.*EXPORT_SYMBOL_RUST_GPL(\([^)]*\)).*/\1/p' "$src"/rust/exports_*_generated.h | sort -u >"$wanted"
    [ -s "$wanted" ] || { echo "no exported Rust symbols found in $src/rust"; return 1; }
    cut -f2 "$stock" | sort -u | comm -23 "$wanted" - >"$wanted.missing"
    echo "$(wc -l <"$wanted") exported Rust symbols, $(wc -l <"$wanted.missing") not in the stock kernel"
    ! grep . "$wanted.missing"
}

keep_rust_half() {
    local src=$1/usr/src/linux-source-$SERIES headers=$1/usr/src/linux-headers-$2
    mkdir -p "$headers/rust"
    cp "$src"/rust/lib*.rmeta "$src"/rust/lib*.so "$headers/rust/"
    cp "$src/scripts/target.json" "$1/usr/lib/linux-kbuild-${2%-cloud-amd64}/scripts/"
    rm -rf "$src" "$src.tar.xz" "$1"/var/cache/apt/archives/*.deb
}

# The symbol check decides over a version, so its failure must not end the script as a step's does.
prepare() {
    local version=$1 release kver
    kver=${version%%-*}
    release=$kver+deb13-cloud-amd64
    local pkgs=$TOOLS
    for p in linux-source-$SERIES linux-headers-$release linux-binary-$release linux-modules-$release; do pkgs+=",$p=$version"; done
    if [ "$(cat "$root/.installed" 2>/dev/null)" != "$version" ]; then
        step "install Debian 13 with kernel $version" install "$root" "$pkgs" "$version"
    fi
    step "unpack the kernel source" unpack_source "$root"
    step "configure it as Debian did" configure_source "$root" "$release"
    step "build the Rust half of the kernel tree" build_rust_half "$root"
    if ! check_symbols "$root" "$release" >"$RVMM_CACHE/log/symbols.log" 2>&1; then
        say "kernel $version: $(head -n 1 "$RVMM_CACHE/log/symbols.log")"
        return 1
    fi
    step "keep the Rust half" keep_rust_half "$root" "$release"
    echo "$release" >"$root/.release"
    touch "$root/.ready"
}

private_apt "$RVMM_CACHE/apt-trixie" amd64 trixie trixie-backports
step "ask the package source for kernels" apt-get "${APT[@]}" -q --error-on=any update
found=
for version in $(versions); do
    [ "$version" = "$TESTED" ] || say "the tested kernel $TESTED cannot be had or used; trying $version"
    if prepare "$version"; then found=$version; break; fi
done
[ -n "$found" ] || die "no kernel of the series $SERIES in trixie-backports passes the symbol check: see $RVMM_CACHE/log/symbols.log, and mend SERIES and TESTED in tests/lab/build-root.sh"
forget_others build- "$root"
echo "$root"
