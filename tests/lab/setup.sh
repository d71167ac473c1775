#!/bin/bash
# Installs on the host what the lab needs of it; with no argument prepares the cached roots as well.
. "$(dirname "$0")/lib.sh"

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need mmdebstrap mmdebstrap
need arch-test arch-test
need make make
need strip binutils
need cc gcc
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
need flock util-linux
need mount mount
need xz xz-utils
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || [ -e /usr/share/keyrings/debian-archive-keyring.pgp ] || missing+=(debian-archive-keyring)

if [ ${#missing[@]} != 0 ]; then
    need_root "$@"
    command -v apt-get >/dev/null || die "step 'install ${missing[*]}': this is no Debian system; install them by its own means and run the same command again"
    step "ask the system's package sources" apt-get -o DPkg::Lock::Timeout=300 update
    step "install ${missing[*]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
fi
[ "${1:-}" = host ] && exit
need_root "$@"

"$LAB/build-root.sh" >/dev/null
"$LAB/tools-root.sh" >/dev/null
"$LAB/initramfs.sh" >/dev/null
"$LAB/crates.sh" >/dev/null
"$LAB/guest-debian.sh" debian-686 >/dev/null
say "ready; everything lies under $RVMM_CACHE"
