#!/usr/bin/env bash
# symbol-order.sh SLUICE FILE: writes to FILE the functions, in the order of their first call, that this unstripped
# static binary runs in the applies and the cleanup that happen in every pod. Needs root and valgrind.
set -euo pipefail
sluice=$1 file=$2
namespace=sluice-order-$$
calls=$(mktemp -d)
trap 'ip netns delete "$namespace"; rm -r "$calls"' EXIT
ip netns add "$namespace"

number=0
for arguments in "apply" "apply" "apply --proxy-uid 1000 --exclude-outbound-ports 80,443-500 --exclude-outbound-cidrs 10.0.0.0/8,fd00::/8" "cleanup"; do
  number=$((number + 1))
  # The arguments are words without spaces of their own.
  # shellcheck disable=SC2086
  ip netns exec "$namespace" valgrind --quiet --tool=callgrind --demangle=no \
    --callgrind-out-file="$calls/$number" "$sluice" $arguments >/dev/null
done
# Valgrind's processor has AVX2; the string functions that glibc picks on a newer one stand next to those.
siblings() {
  sed -E '/_avx2(_|$)|_avx_unaligned/ { p; s/_avx2_movbe$/_evex_movbe/; s/_avx2$/_evex/; s/_avx2?_unaligned/_avx512_unaligned/ }'
}
# `fn=(12) name` where a function is met first, `cfn=` where it is first met as one that is called; a recursion has
# `'2` at its end.
cat "$calls"/? | sed -nE "s/^c?fn=\([0-9]+\) ([^ ']+)('[0-9]+)?$/\1/p" | grep -v '^0x' | awk '!seen[$0]++' | siblings | awk '!seen[$0]++' >"$file"
printf '%s: %d functions\n' "$file" "$(wc -l <"$file")"
