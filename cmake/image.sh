#!/usr/bin/env bash
# image.sh ARCHITECTURE FILE: builds the Dockerfile for amd64 or arm64 and saves the image as an OCI archive. The same commit
# and the same Debian packages give the same digest: the time of everything in it is the commit's, and nothing of this machine is
# in it. Needs root, podman and mmdebstrap.
#
# Podman has its storage beside FILE, in mounts and processes that end with this script, and runs the steps without a container
# runtime, so that neither the machine's own containers nor its cgroups matter. With SLUICE_IMAGE_CCACHE=off the compiler's
# cache of this machine is not used.
set -euo pipefail
[ $# = 2 ] || {
  echo "usage: $0 ARCHITECTURE FILE" >&2
  exit 2
}
architecture=$1
mkdir -p "$(dirname "$2")"
file=$(readlink -f "$2")
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
base=docker.io/library/debian:12-slim
storage=$(dirname "$file")/storage

if [ "${SLUICE_IMAGE_NAMESPACES:-}" != own ]; then
  export SLUICE_IMAGE_NAMESPACES=own
  exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc cmake/image.sh "$architecture" "$file"
fi

driver=overlay
mkdir -p "$storage"
[ "$(stat -f -c %T "$storage")" != overlayfs ] || driver=vfs
# Podman refuses a longer name than this for what it keeps while it runs; seen from here, nobody else's is there.
running=/run/containers
mkdir -p "$running"
mount -t tmpfs tmpfs "$running"
podman=(podman --root "$storage/podman" --runroot "$running/storage" --storage-driver "$driver"
  --cgroup-manager cgroupfs --events-backend none)

if ! "${podman[@]}" image exists "$base"; then
  cmake/base-image.sh "$storage/base.tar"
  "${podman[@]}" import --quiet "$storage/base.tar" "$base" >/dev/null
  rm "$storage/base.tar"
fi

version=$(sed -nE 's/^project\(sluice VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
revision=$(git rev-parse HEAD)
time=$(git log -1 --format=%ct)
name=sluice:$version
options=(--isolation chroot --network host --pull=never --identity-label=false --timestamp "$time"
  --platform "linux/$architecture" --build-arg BUILDPLATFORM="linux/$(dpkg --print-architecture)"
  --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg CREATED="$(date --utc --date="@$time" +%FT%TZ)")
# It makes the build of a known source short and cannot change its result.
if [ "${SLUICE_IMAGE_CCACHE:-on}" = on ] && cache=$(ccache --get-config cache_dir 2>/dev/null) && [ -d "$cache" ]; then
  options+=(--volume "$cache:/root/.cache/ccache")
fi
# The builder is kept, for as long as what it is made of is the same; the image is made again in any case.
"${podman[@]}" build --target builder --tag "builder:$architecture" "${options[@]}" . >&2
"${podman[@]}" rmi --force "$name" >/dev/null 2>&1 || true
"${podman[@]}" build --tag "$name" "${options[@]}" . >&2
"${podman[@]}" image prune --force >/dev/null
rm -f "$file"
"${podman[@]}" save --quiet --format oci-archive --output "$file" "$name"
digest=$(tar -xOf "$file" index.json | jq -r '.manifests[].digest')
printf '%s: linux/%s, %s, %d bytes\n' "$file" "$architecture" "$digest" "$(stat -c %s "$file")"
