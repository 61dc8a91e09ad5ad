#!/usr/bin/env bash
# architecture.sh [--self-test]: the dependency direction is cli -> netfilter -> rules, never back. On
# Debian every library's headers lie in one directory, so the link lines alone stop no wrong #include.
set -euo pipefail
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

# forbid FOLDER PATTERN REASON [EXCEPT]: EXCEPT is a pattern over grep's own "file:line:text".
forbid() {
  local folder=$1 pattern=$2 reason=$3 except=${4:-^$} found
  found=$(grep -rnE --include='*.cpp' --include='*.hpp' "^[[:blank:]]*#[[:blank:]]*include[[:blank:]]*($pattern)" "$folder" | grep -Ev "$except" || true)
  [ -z "$found" ] && return
  printf '%s\n    ^ %s\n' "$found" "$reason"
  failed=1
}

check() (
  cd "$1"
  failed=0
  forbid rules '<(linux/|libnftnl|libmnl|sys/|unistd|net/|netinet/|fcntl)' 'rules/ knows no kernel'
  forbid rules '<arpa/' 'rules/ knows no kernel; inet_pton is pure, and address.cpp alone has use for it' '^rules/address\.cpp:'
  forbid rules '<(spdlog|fmt|CLI|nlohmann)' 'rules/ is the C++ standard library only'
  forbid rules '"(netfilter|cli)/' 'rules/ is at the bottom'
  forbid netfilter '<(CLI|spdlog|nlohmann)' 'netfilter/ neither parses flags nor prints'
  forbid netfilter '"cli/' 'netfilter/ is below cli/'
  forbid cli '<(linux/|libnftnl|libmnl)' 'cli/ speaks to the kernel through netfilter/'
  if [ -f cli/main.cpp ] && [ "$(wc -l <cli/main.cpp)" -gt 60 ]; then
    printf 'cli/main.cpp:61: %s\n    ^ main is a table of contents, at most 60 lines\n' "$(sed -n 61p cli/main.cpp)"
    failed=1
  fi
  exit "$failed"
)

# plant FILE LINE: a tree with this one violation must fail, and the output must name the file and the line.
plant() {
  local tree=$work/tree output
  rm -rf "$tree"
  mkdir -p "$tree"/{rules,netfilter,cli} "$tree/$(dirname "$1")"
  printf '#include <string>\n%s\n' "$2" >"$tree/$1"
  if output=$(check "$tree") || [[ $output != *"$1:2:$2"* ]]; then
    printf 'planted in %s and not found: %s\n' "$1" "$2"
    exit 1
  fi
}

self_test() {
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  local header
  for header in '<linux/netlink.h>' '<libnftnl/rule.h>' '<libmnl/libmnl.h>' '<sys/socket.h>' '<unistd.h>' '<netinet/in.h>' \
    '<arpa/inet.h>' '<spdlog/spdlog.h>' '<fmt/core.h>' '<CLI/CLI.hpp>' '<nlohmann/json.hpp>' '"netfilter/backend.hpp"' '"cli/report.hpp"'; do
    plant rules/planted.hpp "#include $header"
  done
  for header in '<CLI/CLI.hpp>' '<spdlog/spdlog.h>' '<nlohmann/json.hpp>' '"cli/report.hpp"'; do
    plant netfilter/nft/planted.cpp "  #  include $header"
  done
  plant cli/planted.cpp '#include <libmnl/libmnl.h>'

  rm -rf "$work/tree"
  mkdir -p "$work"/tree/{rules,netfilter,cli}
  printf '#include <arpa/inet.h>\n' >"$work/tree/rules/address.cpp"
  printf '#include <linux/netlink.h>\n#include "rules/address.hpp"\n' >"$work/tree/netfilter/socket.cpp"
  yes '// line' | head -n 60 >"$work/tree/cli/main.cpp" || true
  check "$work/tree" || {
    echo 'a tree without a violation was refused'
    exit 1
  }
  echo '// one too many' >>"$work/tree/cli/main.cpp"
  ! check "$work/tree" >/dev/null || {
    echo 'a main.cpp of 61 lines was accepted'
    exit 1
  }
}

case ${1:-} in
  '') check "$root" ;;
  --self-test) self_test ;;
  *)
    echo "usage: $0 [--self-test]" >&2
    exit 2
    ;;
esac
