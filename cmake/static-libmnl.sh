#!/usr/bin/env bash
# static-libmnl.sh DIR: puts libmnl.a, and its version in libmnl.version, into DIR.
#
# Debian 12's libmnl-dev has no archive to link statically; Debian 13's has, of the same interface
# (libmnl.so.0.2.0). So that package is fetched from the Debian mirror this machine uses already and the
# archive is taken out of it; nothing is installed. apt does the fetching and checks the signatures as for
# any package, with a sources list, an index and a cache of its own: the machine's are not changed.
set -euo pipefail
[ $# = 1 ] || {
  echo "usage: $0 DIR" >&2
  exit 2
}
mkdir -p "$1"
out=$(readlink -f "$1")
[ ! -s "$out/libmnl.a" ] || [ ! -s "$out/libmnl.version" ] || exit 0

die() {
  printf 'static-libmnl: %s\n' "$*" >&2
  exit 1
}
architecture=$(dpkg --print-architecture)

# keep ARCHIVE VERSION
keep() {
  nm "$1" 2>/dev/null | grep ' T mnl_socket_open$' >/dev/null || die "$1 does not define mnl_socket_open"
  cp "$1" "$out/libmnl.a.new"
  mv "$out/libmnl.a.new" "$out/libmnl.a"
  # 1.0.5-3 is upstream's 1.0.5.
  printf '%s\n' "${2%-*}" >"$out/libmnl.version"
}

installed=$(dpkg -L libmnl-dev | grep '/libmnl\.a$' || true)
if [ -n "$installed" ]; then
  keep "$installed" "$(dpkg-query -W -f '${Version}' libmnl-dev)"
  exit 0
fi

# apt's own reading of the sources, whichever of the two formats they are written in.
mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk '$1 == "bookworm" && $2 == "main" && !found++ { print $3 }')
[ -n "$mirror" ] || die "this machine's apt sources name no Debian 12 mirror; put a libmnl.a and a libmnl.version into $out"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,download,content}
if [ "$(id -u)" = 0 ]; then
  # apt fetches as its own unprivileged user, who has to get in.
  chmod 755 "$work"
  chown _apt "$work/download"
fi
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s trixie main\n' "$keyring" "$mirror" >"$work/sources.list"
apt=(apt-get -qq
  -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache"
  -o Acquire::Languages=none -o Acquire::Retries=3)

fetch() {
  "${apt[@]}" update && (cd "$work/download" && "${apt[@]}" download libmnl-dev)
}
for attempt in 1 2 3; do
  if fetch; then break; fi
  [ "$attempt" != 3 ] || die "apt could not fetch Debian 13's libmnl-dev"
  sleep $((attempt * 5))
done

package=$(echo "$work"/download/libmnl-dev_*_"$architecture".deb)
dpkg-deb -x "$package" "$work/content"
keep "$(find "$work/content" -name libmnl.a)" "$(dpkg-deb -f "$package" Version)"
