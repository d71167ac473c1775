#!/bin/bash
# Reads a disassembly of rvmm.ko (objdump -d) and fails if a function takes 2 KiB or more of the host's stack, which has 16 KiB for all that is
# under it, reclaiming memory included: name and bytes of each on stderr. It fails as well if what it reads is no disassembly in which it could find one.
set -euo pipefail

text=$(cat)
if ! grep -qE '^[0-9a-f]+ <.*>:$' <<<"$text" || ! grep -qE 'sub +\$0x[0-9a-f]+,%rsp' <<<"$text"; then
    echo "no functions with frames in the disassembly of the module" >&2
    exit 1
fi
found=$(sed -n -E <<<"$text" '
    /^[0-9a-f]+ <.*>:$/ { s/^[0-9a-f]+ <(.*)>:$/\1/; h; d }
    /sub +\$0x([89a-f][0-9a-f]{2}|[0-9a-f]{4,5}),%rsp/ { s/.*sub +\$(0x[0-9a-f]+),%rsp.*/\1/; G; s/\n/ /; p }')
[ -z "$found" ] && exit
echo "frames of 2 KiB or more in the module:" >&2
while read -r bytes name; do echo "  $((bytes)) $name" >&2; done <<<"$found"
exit 1
