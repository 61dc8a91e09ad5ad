#!/usr/bin/env bash
# base-image.sh FILE: makes the image that the Dockerfile begins with out of Debian 12's packages, as an archive that `podman
# import` reads, for a machine that can pull no image. Packages come from the mirror that this machine's apt uses and are
# checked by Debian's keys; inside, apt is told the same mirror and the same way to reach it. Needs root and mmdebstrap.
set -euo pipefail
[ $# = 1 ] || {
  echo "usage: $0 FILE" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Debian 12's own sources among those of this machine, whichever of the two formats they are written in.
apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk '$1 ~ /^bookworm(-updates|-security)?$/ && $2 == "main" && !seen[$0]++ {
    print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " $3 " " $1 " main" }' >"$work/sources.list"
[ -s "$work/sources.list" ] || {
  echo "base-image: this machine's apt sources name no Debian 12 mirror" >&2
  exit 1
}
# How apt reaches its mirror here (a proxy, a mirror whose dates are old); nothing else of this machine.
apt-config dump --no-empty --format '%F "%v";%n' Acquire | grep -E '^Acquire::(https?::|Check-|Retries)' >"$work/apt.conf" || true
secure=()
! grep -q ' https:' "$work/sources.list" || secure=(--include=ca-certificates)
chmod -R a+rX "$work"
unread=()
for folder in doc man locale; do unread+=(--dpkgopt="path-exclude=/usr/share/$folder/*"); done
mmdebstrap --quiet --variant=minbase "${secure[@]}" --aptopt="$work/apt.conf" "${unread[@]}" \
  bookworm "$work/base.tar" "$work/sources.list"
mv "$work/base.tar" "$1"
