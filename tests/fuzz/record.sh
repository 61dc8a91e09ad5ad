#!/usr/bin/env bash
# Records what the real kernel answers, as seeds of netlink_fuzz: record.sh SLUICE NETLINK_FUZZ FOLDER
# Each state is made in a network namespace of its own, which is gone with the shell that made it. Needs root.
set -euo pipefail
sluice=$(realpath "$1") fuzzer=$(realpath "$2") folder=$(realpath -m "$3")
mkdir -p "$folder"
options=(--preset istio --dns all --inbound-mode tproxy --exclude-interfaces 'eth1,docker*' --exclude-uids 1-5,9
  --exclude-outbound-cidrs 10.0.0.0/8,192.0.2.1,fd00::/8,2001:db8::1)
foreign='table inet other {
  set ports { type inet_service; flags interval; elements = { 80, 443-450 }; }
  chain more { ip saddr 10.0.0.0/8 counter log limit rate 5/second accept; meta mark 7 reject; }
  chain in { type filter hook input priority 0; policy drop; ct state established accept; tcp dport @ports jump more; }
}
table ip6 nat { chain OUTPUT { type nat hook output priority -100; ip6 daddr fd00::/8 tcp dport 80 redirect to :8080; }; }'

# state COMMANDS: in a namespace of its own
state() { unshare --net -- bash -euc "ip link set lo up; $1" >&2; }
# ask NAME: the command that records the answers there
ask() { printf 'mkdir -p %q/%s; SLUICE_FUZZ_RECORD=%q/%s %q' "$folder" "$1" "$folder" "$1" "$fuzzer"; }
quoted=$(printf '%q ' "$sluice" apply "${options[@]}")
state "$(ask empty)"
state "$quoted --backend nftables; $(ask native)"
state "$(printf "%q " "$sluice") --inbound-mode tproxy --backend iptables --iptables-variant nft; $(ask iptables)"
state "printf %s $(printf %q "$foreign") | nft -f -; $(ask foreign)"
state "printf %s $(printf %q "$foreign") | nft -f -; $quoted; $(ask both)"
# One folder, and a name that tells where each comes from.
for name in empty native iptables foreign both; do
  for file in "$folder/$name"/*; do mv "$file" "$folder/$name-$(basename "$file")"; done
  rmdir "$folder/$name"
done
