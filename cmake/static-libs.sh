#!/usr/bin/env bash
# static-libs.sh DIR: puts what a static release needs and Debian 12 lacks into DIR:
#
#   libmnl.a, libmnl.version   Debian 12's libmnl-dev has no archive; Debian 13's has, of the same interface (libmnl.so.0.2.0)
#   libc/                      Debian 13's static C library (glibc 2.41) with its start files. At every start of a static program
#                              Debian 12's (2.36) asks the processor about its caches with some eighty CPUID instructions,
#                              each of which a virtual machine traps; 2.41 asks half as often, and sluice starts in half the time.
#
# Both are taken out of packages that apt fetches from the Debian mirror this machine uses already; nothing is installed. apt
# checks the signatures as for any package, with a sources list, an index and a cache of its own: the machine's are not
# changed. On a Debian that has them, the installed ones are used.
set -euo pipefail
[ $# = 1 ] || {
  echo "usage: $0 DIR" >&2
  exit 2
}
mkdir -p "$1"
out=$(readlink -f "$1")
[ ! -s "$out/libmnl.version" ] || [ ! -s "$out/libc/libc.a" ] || exit 0

die() {
  printf 'static-libs: %s\n' "$*" >&2
  exit 1
}
architecture=$(dpkg --print-architecture)

# keep_libmnl ARCHIVE VERSION
keep_libmnl() {
  nm "$1" 2>/dev/null | grep ' T mnl_socket_open$' >/dev/null || die "$1 does not define mnl_socket_open"
  cp "$1" "$out/libmnl.a.new"
  mv "$out/libmnl.a.new" "$out/libmnl.a"
  # 1.0.5-3 is upstream's 1.0.5.
  printf '%s\n' "${2%-*}" >"$out/libmnl.version"
}

# keep_libc FOLDER: the files of the C library that a static link takes, from a folder with all of its files
keep_libc() {
  rm -rf "$out/libc.new" "$out/libc"
  mkdir "$out/libc.new"
  cp "$1"/{rcrt1.o,crti.o,crtn.o,libc.a,libpthread.a} "$out/libc.new/"
  # libm.a is a linker script that names its parts by absolute paths.
  cp "$1"/libm-*.a "$out/libc.new/libm.a"
  mv "$out/libc.new" "$out/libc"
}

installed=$(dpkg -L libmnl-dev | grep '/libmnl\.a$' || true)
if [ -n "$installed" ] && dpkg --compare-versions "$(dpkg-query -W -f '${Version}' libc6-dev)" ge 2.41; then
  keep_libmnl "$installed" "$(dpkg-query -W -f '${Version}' libmnl-dev)"
  keep_libc "$(dirname "$(gcc -print-file-name=libc.a)")"
  exit 0
fi

# apt's own reading of the sources, whichever of the two formats they are written in.
mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk '$1 == "bookworm" && $2 == "main" && !found++ { print $3 }')
[ -n "$mirror" ] || die "this machine's apt sources name no Debian 12 mirror; put libmnl.a, libmnl.version and libc/ into $out"

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
  "${apt[@]}" update && (cd "$work/download" && "${apt[@]}" download libmnl-dev libc6-dev)
}
for attempt in 1 2 3; do
  if fetch; then break; fi
  [ "$attempt" != 3 ] || die "apt could not fetch Debian 13's libmnl-dev and libc6-dev"
  sleep $((attempt * 5))
done

for package in "$work"/download/*_"$architecture".deb; do
  dpkg-deb -x "$package" "$work/content"
done
keep_libc "$(dirname "$(find "$work/content" -name libc.a)")"
keep_libmnl "$(find "$work/content" -name libmnl.a)" "$(dpkg-deb -f "$work"/download/libmnl-dev_*.deb Version)"
