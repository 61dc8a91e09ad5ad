#!/usr/bin/env bash
# hardening.sh BUILD_DIR: proves that the released binary is what docs and Dockerfile say it is. Link
# flags are easily undone by one another (-pie after -static-pie, for one), so the file is asked, not the flags.
set -euo pipefail
[ $# = 1 ] || {
  echo "usage: $0 BUILD_DIR" >&2
  exit 2
}
build=$1
binary=$build/sluice
headers=$(readelf --wide --file-header --program-headers --dynamic "$binary")
ours=$(nm --undefined-only "$build"/rules/librules.a "$build"/netfilter/libnetfilter.a "$build"/cli/libcli_core.a 2>/dev/null)
failed=0

# expect WHAT TEXT PATTERN, reject WHAT TEXT PATTERN
report() { printf '  %-4s %s\n' "$1" "$2"; }
expect() {
  if grep -Eq "$3" <<<"$2"; then report ok "$1"; else
    report FAIL "$1"
    failed=1
  fi
}
reject() {
  if grep -Eq "$3" <<<"$2"; then
    report FAIL "$1"
    failed=1
  else report ok "$1"; fi
}

expect 'position independent (ELF type DYN, flag PIE)' "$headers" 'FLAGS_1.*\bPIE\b'
reject 'static: no interpreter' "$headers" '^ *INTERP '
reject 'static: no shared library' "$headers" '\(NEEDED\)'
expect 'RELRO' "$headers" '^ *GNU_RELRO '
expect 'BIND_NOW' "$headers" 'FLAGS_1.*\bNOW\b'
expect 'stack not executable' "$headers" '^ *GNU_STACK .* RW +(0x)?[0-9]'
reject 'no segment both writable and executable' "$headers" '^ *LOAD .* RWE '
expect 'stack protector in our code' "$ours" ' U __stack_chk_fail$'
expect '_FORTIFY_SOURCE in our code' "$ours" ' U __[a-z]+_chk$'
# Symbols were for the linker; the section is gone from a stripped file.
reject 'stripped' "$(readelf --wide --sections "$binary")" ' \.symtab '
# What is shipped in every pod has a budget; cmake/flags.cmake and cli/cli11.hpp say how it is kept.
limit=2500000
size=$(stat -c %s "$binary")
if [ "$size" -le "$limit" ]; then verdict=ok; else
  verdict=FAIL
  failed=1
fi
report "$verdict" "$size bytes, at most $limit"
exit "$failed"
