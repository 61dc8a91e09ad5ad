#!/usr/bin/env bash
# static-libs.sh DIR [ARCHITECTURE]: puts what a static release for this machine or another architecture needs, and Debian 12
# lacks here, into DIR:
#
#   libmnl.a      Debian 12's libmnl-dev has no archive; Debian 13's has, of the same interface (libmnl.so.0.2.0)
#   libc/         Debian 13's static C library (glibc 2.41) with its start files. At every start of a static program Debian
#                 12's (2.36) asks the processor about its caches with some eighty CPUID instructions, each of which a virtual
#                 machine traps; 2.41 asks half as often, and sluice starts in half the time.
#   libnftnl.a    for another architecture only: Debian 12's own
#   lib*.version  which versions those are
#
# All are taken out of packages that apt fetches from the Debian mirror this machine uses already; nothing is installed. apt
# checks the signatures as for any package, with a sources list, an index and a cache of its own: the machine's are not
# changed. On a Debian that has them, the installed ones are used.
set -euo pipefail
[ $# = 1 ] || [ $# = 2 ] || {
  echo "usage: $0 DIR [ARCHITECTURE]" >&2
  exit 2
}
mkdir -p "$1"
out=$(readlink -f "$1")
native=$(dpkg --print-architecture)
architecture=${2:-$native}
wanted=(libmnl)
[ "$architecture" = "$native" ] || wanted+=(libnftnl)

die() {
  printf 'static-libs: %s\n' "$*" >&2
  exit 1
}

complete() {
  local name
  for name in "${wanted[@]}"; do [ -s "$out/$name.version" ] || return 1; done
  [ -s "$out/libc/libc.a" ]
}
! complete || exit 0

# keep_library NAME ARCHIVE VERSION
keep_library() {
  nm "$2" 2>/dev/null | grep -E ' T (mnl_socket_open|nftnl_table_alloc)$' >/dev/null || die "$2 does not hold $1"
  cp "$2" "$out/$1.a.new"
  mv "$out/$1.a.new" "$out/$1.a"
  # 1.0.5-3 is upstream's 1.0.5.
  printf '%s\n' "${3%-*}" >"$out/$1.version"
}

# keep_libc FOLDER: the files of the C library that a static link takes, from a folder with all of its files
keep_libc() {
  rm -rf "$out/libc.new" "$out/libc"
  mkdir "$out/libc.new"
  cp "$1"/{rcrt1.o,crti.o,crtn.o,libc.a,libpthread.a} "$out/libc.new/"
  # libm.a of x86 is a linker script that names its parts by absolute paths.
  if [ -e "$1"/libm-*.a ]; then cp "$1"/libm-*.a "$out/libc.new/libm.a"; else cp "$1/libm.a" "$out/libc.new/"; fi
  mv "$out/libc.new" "$out/libc"
}

installed=$(dpkg -L libmnl-dev | grep '/libmnl\.a$' || true)
if [ "$architecture" = "$native" ] && [ -n "$installed" ] &&
  dpkg --compare-versions "$(dpkg-query -W -f '${Version}' libc6-dev)" ge 2.41; then
  keep_libc "$(dirname "$(gcc -print-file-name=libc.a)")"
  keep_library libmnl "$installed" "$(dpkg-query -W -f '${Version}' libmnl-dev)"
  exit 0
fi

# apt's own reading of the sources, whichever of the two formats they are written in.
mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk '$1 == "bookworm" && $2 == "main" && !found++ { print $3 }')
[ -n "$mirror" ] ||
  die "this machine's apt sources name no Debian 12 mirror; put ${wanted[*]/%/.a}, their .version and libc/ into $out"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,download,content}
if [ "$(id -u)" = 0 ]; then
  # apt fetches as its own unprivileged user, who has to get in.
  chmod 755 "$work"
  chown _apt "$work/download"
fi
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages=(libmnl-dev/trixie libc6-dev/trixie)
suites=(trixie)
if [ "$architecture" != "$native" ]; then
  # Of the release whose headers are used.
  packages+=(libnftnl-dev/bookworm)
  suites+=(bookworm)
fi
printf "deb [signed-by=$keyring] $mirror %s main\n" "${suites[@]}" >"$work/sources.list"
apt=(apt-get -qq
  -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o Dir::State::Status=/dev/null
  -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache"
  -o Acquire::Languages=none -o Acquire::Retries=3)

fetch() {
  "${apt[@]}" update && (cd "$work/download" && "${apt[@]}" download "${packages[@]}")
}
for attempt in 1 2 3; do
  if fetch; then break; fi
  [ "$attempt" != 3 ] || die "apt could not fetch ${packages[*]} for $architecture"
  sleep $((attempt * 5))
done

for package in "$work"/download/*_"$architecture".deb; do
  dpkg-deb -x "$package" "$work/content"
done
keep_libc "$(dirname "$(find "$work/content" -name libc.a)")"
for name in "${wanted[@]}"; do
  keep_library "$name" "$(find "$work/content" -name "$name.a")" "$(dpkg-deb -f "$work/download/$name-dev_"*.deb Version)"
done
