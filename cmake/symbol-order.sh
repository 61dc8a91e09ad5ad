#!/usr/bin/env bash
# symbol-order.sh SLUICE FILE: writes to FILE the functions, in the order in which they are first entered, that this
# unstripped static binary runs in the applies and the cleanup that happen in every pod. Needs root and a C compiler. A minute.
set -euo pipefail
sluice=$1 file=$2
namespace=sluice-order-$$
work=$(mktemp -d)
trap 'ip netns delete "$namespace"; rm -r "$work"' EXIT
ip netns add "$namespace"

# On the processor itself, for nothing else has what the C library looks for at its start: the kernel's vDSO, and the
# string functions that are the best for just this processor.
"${CC:-cc}" -O2 -Wall -Wextra -Werror -o "$work/enter" "$(dirname "$0")/entered.c"
: >"$work/entered"
for arguments in "apply" "apply" "apply --proxy-uid 1000 --exclude-outbound-ports 80,443-500 --exclude-outbound-cidrs 10.0.0.0/8,fd00::/8" "cleanup"; do
  # The arguments are words without spaces of their own.
  # shellcheck disable=SC2086
  ip netns exec "$namespace" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$work/enter" "$work/entered" "$sluice" $arguments >"$work/said"
done
nm "$sluice" | awk '$2 ~ /^[tTwWi]$/ { print $1, "0", $3 }' >"$work/functions"
# Each place belongs to the function that begins at it or last before it; one that the linker has folded with others has
# several names, and which of them it goes by when it puts functions in order is not said.
awk '{ print $1, "1", NR }' "$work/entered" | sort -k1,1 -k2,2n - "$work/functions" |
  awk '$2 == "0" { names = $1 == at ? names " " $3 : $3; at = $1; next } { print $3, names }' | sort -n |
  awk '{ for (i = 2; i <= NF; ++i) if (!seen[$i]++) print $i }' |
  # After all of them the C library's string functions for older and newer processors: there one window more is touched.
  awk '{ print }
    /_(avx|avx2|evex|avx512)(_|$)/ {
      sub(/_rtm$/, "")
      kinds = split("avx avx2 evex avx512", kind)
      for (i = 1; i <= kinds; ++i) { name = $0; sub(/_(avx512|avx2|avx|evex)/, "_" kind[i], name); others[++count] = name }
    }
    END { for (i = 1; i <= count; ++i) print others[i] }' |
  awk '!seen[$0]++' >"$file"
printf '%s: %d functions\n' "$file" "$(wc -l <"$file")"
