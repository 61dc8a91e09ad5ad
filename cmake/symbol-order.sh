#!/usr/bin/env bash
# symbol-order.sh SLUICE FILE: writes to FILE the functions, in the order in which they are first entered, that this
# unstripped static binary runs in the applies and the cleanup that happen in every pod. Needs root and valgrind.
set -euo pipefail
sluice=$1 file=$2
namespace=sluice-order-$$
work=$(mktemp -d)
trap 'ip netns delete "$namespace"; rm -r "$work"' EXIT
ip netns add "$namespace"

# Valgrind tells of each piece of code when it runs for the first time; a piece ends with the function that it is in:
#   ==== SB 0 (evchecks 0) [tid 1] 0x21d970 (below main) /path/of/sluice+0x115970
# with the place in the file, as nm has it; as many digits as nm writes, so that text sorts as numbers do.
: >"$work/entered"
for arguments in "apply" "apply" "apply --proxy-uid 1000 --exclude-outbound-ports 80,443-500 --exclude-outbound-cidrs 10.0.0.0/8,fd00::/8" "cleanup"; do
  # The arguments are words without spaces of their own.
  # shellcheck disable=SC2086
  ip netns exec "$namespace" valgrind --tool=none --vex-guest-chase=no --trace-notbelow=0 --trace-flags=00000001 "$sluice" $arguments 2>&1 |
    sed -nE "s/^==== SB .*\/${sluice##*/}\+0x([0-9a-f]+)$/000000000000000\1/p" | sed -E 's/^.*(.{16})$/\1/' >>"$work/entered"
done
[ -s "$work/entered" ] || { echo "symbol-order.sh: valgrind told of no code" >&2; exit 1; }
nm "$sluice" | awk '$2 ~ /^[tTwWi]$/ { print $1, "0", $3 }' >"$work/functions"
# Each place belongs to the function that begins at it or last before it; one that the linker has folded with others has
# several names, and which of them it goes by when it puts functions in order is not said.
awk '{ print $1, "1", NR }' "$work/entered" | sort -k1,1 -k2,2n - "$work/functions" |
  awk '$2 == "0" { names = $1 == at ? names " " $3 : $3; at = $1; next } { print $3, names }' | sort -n |
  awk '{ for (i = 2; i <= NF; ++i) if (!seen[$i]++) print $i }' |
  # Valgrind's processor has AVX2; the string functions that glibc picks on a newer one stand next to those.
  sed -E '/_avx2(_|$)|_avx_unaligned/ { p; s/_avx2_movbe$/_evex_movbe/; s/_avx2$/_evex/; s/_avx2?_unaligned/_avx512_unaligned/ }' |
  awk '!seen[$0]++' >"$file"
printf '%s: %d functions\n' "$file" "$(wc -l <"$file")"
