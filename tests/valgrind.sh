#!/usr/bin/env bash
# The unit tests and what a pod's life asks of sluice, under valgrind's memcheck: tests/valgrind.sh BUILD
# BUILD is without the filter of system calls, which would end valgrind. Needs root; everything happens in network namespaces that are
# gone with this process.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$(readlink -f "$0")")/.."
checked=(valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect --num-callers=25)
export SLUICE_LOG_LEVEL=warning

in_namespace() { unshare --net -- bash -euc "ip link set lo up; $1"; }

# life OPTION...: from the first apply to the cleanup
life() {
  local sluice options
  sluice=$(printf '%q ' "${checked[@]}" "$build/sluice")
  options=$(printf '%q ' "$@")
  printf '   %s\n' "$*" >&2
  in_namespace "
    $sluice plan $options >/dev/null
    $sluice apply $options >/dev/null
    $sluice apply $options >/dev/null
    $sluice apply $options --exclude-outbound-ports 25 --exclude-interfaces 'net*' >/dev/null
    $sluice verify $options --format json >/dev/null || [ \$? = 3 ]
    $sluice plan --diff $options >/dev/null || [ \$? = 3 ]
    $sluice status >/dev/null
    $sluice status --format json >/dev/null
    $sluice explain --live --dst 198.18.0.10:80 >/dev/null
    $sluice doctor $options >/dev/null
    $sluice cleanup --dry-run >/dev/null
    $sluice cleanup >/dev/null
    $sluice cleanup >/dev/null"
}

for suite in rules_test netfilter_test cli_test; do
  printf '   %s\n' "$suite" >&2
  # The one test that walks through a hundred thousand decisions takes valgrind minutes and allocates nothing new.
  "${checked[@]}" "$build/$suite" --test-case-exclude='read back, the rules differ in nothing*,*seccomp*,*filter of system calls*' >/dev/null
done
life --backend nftables
life --backend nftables --preset istio --dns all --inbound-mode tproxy --udp reject:443 \
  --exclude-outbound-cidrs 10.0.0.0/8,192.0.2.1,fd00::/8,2001:db8::1 --exclude-uids 1-5,9
life --backend iptables --iptables-variant nft --preset istio
"${checked[@]}" "$build/sluice" --proxy-port 0 --exclude-outbound-cidrs 10.0.0.0/33 --inbund-port 15006 2>/dev/null || [ $? = 2 ]
