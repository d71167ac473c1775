#!/bin/sh
# The module's tracepoints: one micro-guest in the lab with all of them on, compared with its own expected output and counters.
# Ends with "N passed, N failed". OUT keeps the trace.
set -e
cd "$(dirname "$0")/../.."
out=${OUT:-build/trace}
stage=$out/dir
mkdir -p "$stage"
make -s -C tests/guests OUT="$PWD/build/guests"
cp build/guests/every-exit.elf tests/trace/in-lab.sh "$stage/"
DIR=$stage OUT=$out CMD='sh in-lab.sh' TIMEOUT="${TIMEOUT:-300}" exec make lab-run
