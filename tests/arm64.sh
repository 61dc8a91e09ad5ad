#!/usr/bin/env bash
# arm64.sh ARM64_SLUICE NATIVE_SLUICE: runs the release for arm64 in qemu and expects of it, to the byte, what this machine's
# says. That is all which needs no kernel: qemu-user knows no netfilter sockets and no seccomp filters.
set -euo pipefail
[ $# = 2 ] || {
  echo "usage: $0 ARM64_SLUICE NATIVE_SLUICE" >&2
  exit 2
}
arm64=(qemu-aarch64-static "$1")
native=("$2")
failed=0
said=$(mktemp -d)
trap 'rm -r "$said"' EXIT

report() { printf '  %-4s %s\n' "$1" "$2"; }

# run FOLDER PROGRAM... : output, messages and exit status, with no variable of this machine's
run() {
  local into=$1 status=0
  shift
  timeout 60 env -i "$@" >"$into.out" 2>"$into.err" || status=$?
  echo "$status" >"$into.status"
}

# same STATUS ARGUMENT...
same() {
  local expected=$1 part shown
  shift
  shown="sluice $*"
  [ ${#shown} -le 70 ] || shown="${shown::70}..."
  run "$said/arm64" "${arm64[@]}" "$@"
  run "$said/native" "${native[@]}" "$@"
  for part in out err; do
    cmp "$said/native.$part" "$said/arm64.$part" || {
      report FAIL "$shown: not what this machine's says"
      failed=1
      return
    }
  done
  if [ "$(cat "$said/arm64.status") $(cat "$said/native.status")" = "$expected $expected" ]; then report ok "$shown"; else
    report FAIL "$shown: exit status $(cat "$said/arm64.status"), not $expected"
    failed=1
  fi
}

# One that can do most of what there is.
everything=(--inbound-mode tproxy --proxy-uid 1337,2000-3000 --proxy-mark 0x539/0xfff --hairpin inbound --dns all --udp reject:443
  --inbound-ports 80,8000-8100 --exclude-inbound-cidrs 10.0.0.0/8,fd00::/8
  --exclude-outbound-ports-for-uids tcp:3306,5432:1000-1010 --exclude-interfaces eth1,veth+
  --virtual-interfaces tap0 --drop-invalid --other-family pass)

if readelf --file-header "$1" | grep -q 'Machine: *AArch64'; then report ok 'made for arm64'; else
  report FAIL 'not made for arm64'
  failed=1
fi
same 0 --version
for format in nft iptables json mermaid dot; do
  same 0 plan --format "$format"
  same 0 plan --format "$format" "${everything[@]}"
done
same 0 plan --preset istio --backend iptables
same 0 explain --uid 1000 --dst 10.96.0.1:443
same 0 explain --direction inbound --dst '[fd00::1]:8080' --format json "${everything[@]}"
same 0 manifest --preset linkerd
same 2 --proxy-port 0 --exclude-outbound-cidrs 10.0.0.0/33

# There is a filter for this processor in it, which qemu refuses.
run "$said/doctor" "${arm64[@]}" doctor
if grep -q "seccomp filter of sluice's own: the kernel does not take it" "$said/doctor.out"; then
  report ok 'a seccomp filter'
else
  report FAIL 'a seccomp filter: doctor says'
  cat "$said/doctor.out" "$said/doctor.err"
  failed=1
fi
exit "$failed"
