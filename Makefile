# The front door: 'make help'. Each target is one script under tests/lab or tests; settings are environment variables of the same name.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
export CMD DIR OUT SMP MEM CPU QEMU_ARGS ICOUNT EMU PACKAGES TIMEOUT OUT_SIZE MODULE RVMM APPEND KDIR GUEST MODEL CLOCK SHARE JOBS DISK CDROM FLOPPY KERNEL INITRD SCREEN

GUEST_TARGETS := guest-debian-686 guest-debian-686-pae guest-debian-amd64 guest-debian-amd64-cloud guest-debian-cloud

.PHONY: help setup check module user run lab lab-run $(GUEST_TARGETS) test test-full

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{ printf "  make %-18s %s\n", $$1, $$2 } /^#: /{ print "  " substr($$0, 4) }' Makefile

setup: ## install what is missing and prepare the lab (as root or through sudo; other targets do it when needed)
	@tests/lab/setup.sh

check: ## format, lints and host unit tests; needs no root, lab or kernel tree
	@tests/lab/check.sh

module: ## build rvmm.ko for the lab kernel, or with KDIR= for another kernel tree; prints its path
	@tests/lab/setup.sh host
	@tests/lab/module.sh

user: ## build the static program rvmm; prints its path
	@tests/lab/user.sh

run: ## boot GUEST=debian-686 under rvmm with MODEL=0/1/3 (a 64-bit GUEST: 0/3/3) in the lab: its shell, or without a terminal its self-check; with DISK= CDROM= FLOPPY= KERNEL= those images instead
	@tests/lab/setup.sh host
	@tests/lab/run-guest.sh

lab: ## a shell in the lab, the module loaded; takes lab-run's settings
	@tests/lab/setup.sh host
	@INTERACTIVE=1 tests/lab/run.sh

lab-run: ## boot the lab, run CMD in it, end with its status
	@tests/lab/setup.sh host
	@tests/lab/run.sh

# guest-NAME: fetch the kernel of GUEST=NAME and make the guest's userlands; prints the folder.
$(GUEST_TARGETS): guest-%:
	@tests/lab/setup.sh host
	@tests/lab/guest-debian.sh $*

test: ## the tests that take about 45 minutes: check, then those that need the lab
	@tests/lab/test.sh

test-full: ## all tests, those that take longer too, unattended
	@tests/lab/test.sh full

#: Settings of lab-run:
#:   CMD='…' the command   DIR=path seen read-only at /mnt/dir   OUT=path receives /mnt/out   TIMEOUT=600 seconds
#:   EMU=qemu|bochs   SMP=2 MEM=1024 (MiB) CPU=max,-fsrm   ICOUNT=1 repeatable single-threaded run   QEMU_ARGS='…'   APPEND='kernel arguments'
#:   PACKAGES='…' programs from Debian packages   MODULE=none|file.ko   RVMM=none|file   OUT_SIZE=256M
#: Settings of run, besides SMP MEM CPU QEMU_ARGS TIMEOUT OUT:
#:   GUEST=debian-686|debian-686-pae|debian-amd64|debian-amd64-cloud|debian-cloud ('make guest-NAME' only prepares it)
#:   MODEL=0/1/3|0/3/3   ENGINE=rvmm|kvm   RUN_ARGS='more for rvmm run'   GUEST_APPEND='kernel arguments'
#:   DISK='image second,snapshot=on' CDROM=iso FLOPPY=image   boot them like a PC, with options as 'rvmm run --disk' takes them
#:   KERNEL=file INITRD=file GUEST_APPEND='…'   a kernel that the firmware starts   SCREEN=curses|serial where the terminal is
#:   CLOCK=60 seconds for which the self-check watches the guest's clock   SHARE=1 (N: only one N-th of its fork+exec and page faults)
#: Of test and test-full: JOBS=N CPUs that tests may keep busy at a time (all, 4 at most)
#: Everywhere: RVMM_CACHE=~/.cache/rvmm   RVMM_CARGO=root the Rust root's cargo, not the host's
