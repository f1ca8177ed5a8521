#!/usr/bin/env bash
# How fast and how small: generate on the real driver tree, the hooks, whole podman runs. See README.md beside this.
# Usage: tests/bench/run.sh [generate|hook|precreate|nspawn|podman]…   (none: all; root, since it starts containers and mounts)
# ROUNDS=n sets how often each command runs.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common apt rust driver host image podman; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done
DRIVER=${DRIVER:-550}

measure() { "$ROOM/measure" "$@"; }

bench_generate() {
  local command libraries
  command="$(built cdi-gen) generate --root $ROOM/host --hook-path $(built oci-hook)"
  say "cdi-gen generate, driver $(driver_version "$DRIVER"), warm; the first line is the cost of starting any program"
  measure "${ROUNDS:-200}" /bin/true "$command"
  libraries=$($command 2>/dev/null | sed -nE 's/^ *-? *hostPath: (.*\.so.*)$/\1/p' | sort -u | xargs du --bytes --total -- | tail -n 1)
  echo "the libraries it describes have ${libraries%%[!0-9]*} bytes"
}

# pad_cache ROOT ENTRIES: small libraries of their own names until ROOT's loader cache has so many entries.
pad_cache() {
  local missing number
  missing=$(($2 - $(cache_entries "$1")))
  for ((number = 0; number < missing; number++)); do
    gcc -shared -nostdlib -Wl,-soname,"libpad$number.so.1" -o "$1/usr/local/lib/libpad$number.so.1" -xc /dev/null
  done
  ldconfig -r "$1"
}

cache_entries() { ldconfig -p -C "$1/etc/ld.so.cache" | sed -n '1s/ .*//p'; }

# The hook as an engine calls it, on a fresh overlay of the image's root each time.
bench_hook() {
  local lower=$ROOM/lower root=$ROOM/root arguments
  mkdir "$lower" "$root" "$ROOM/over" "$ROOM/bundle"
  tar -C "$lower" -xf "$CACHE/image/debian.tar"
  pad_cache "$lower" 114
  generate_json >"$ROOM/spec.json"
  jq -r '.containerEdits.mounts[].containerPath' "$ROOM/spec.json" | while read -r path; do
    mkdir -p "$lower${path%/*}" && : >"$lower$path"
  done
  arguments=$(jq -r '.containerEdits.hooks[0].args[1:] | join(" ")' "$ROOM/spec.json")
  jq -n --arg root "$root" '{ociVersion: "1.0.2", root: {path: $root}}' >"$ROOM/bundle/config.json"
  jq -n --arg bundle "$ROOM/bundle" --arg root "$root" \
    '{ociVersion: "1.0.2", id: "bench", status: "created", bundle: $bundle, root: $root}' >"$ROOM/state.json"
  export BEFORE="umount $root 2>/dev/null; rm -rf $ROOM/over; mkdir -p $ROOM/over/up $ROOM/over/work &&
    mount -t overlay overlay -o lowerdir=$lower,upperdir=$ROOM/over/up,workdir=$ROOM/over/work $root"
  say "oci-hook create-container, $(grep -o -- --link <<<"$arguments" | wc -l) links, a cache of $(cache_entries "$lower") entries"
  STDIN=$ROOM/state.json measure "${ROUNDS:-200}" /bin/true "$(built oci-hook) $arguments"
  say 'the same where other containers share its pid namespace: it goes on as a copy that cannot be written to'
  # shellcheck disable=SC2016 # expanded inside; the hook's parent must not be the namespace's first process
  STDIN=$ROOM/state.json unshare --pid --fork sh -c '"$@"; exit $?' sh "$ROOM/measure" "${ROUNDS:-200}" /bin/true \
    "$(built oci-hook) $arguments"
  stat -c 'the binary has %s bytes' "$(built oci-hook)"
  unset BEFORE
  umount "$root"
}

# oci-hook-inject as podman calls it, with podman's own config and one spec of 64 mounts (and a hook, and two GPUs).
bench_precreate() {
  # A source that is missing would be an error.
  generate_json | jq '.containerEdits.mounts |= (. + [range(64 - length) | {hostPath: "/etc/passwd", containerPath: "/bench/\(.)",
    options: ["ro", "nosuid", "nodev", "bind"]}])' >/etc/cdi/nvidia.json
  mkdir "$ROOM/hooks.d"
  jq -n --arg out "$ROOM/config.json" '{version: "1.0.0", hook: {path: "/bin/sh", args: ["sh", "-c", "tee \($out)"]},
    when: {always: true}, stages: ["precreate"]}' >"$ROOM/hooks.d/tee.json"
  podman --hooks-dir "$ROOM/hooks.d" run --rm --env NVIDIA_VISIBLE_DEVICES=all "$IMAGE" true
  say "oci-hook-inject precreate, $(jq '.containerEdits.mounts | length' /etc/cdi/nvidia.json) mounts, a config of $(stat -c %s "$ROOM/config.json") bytes"
  say 'the second line: a container that asks for nothing'
  STDIN=$ROOM/config.json measure "${ROUNDS:-200}" /bin/true "$(built oci-hook-inject) precreate" \
    "$(built oci-hook-inject) precreate --device nvidia.com/gpu=all" \
    "$(built oci-hook-inject) precreate --allow-environment nvidia.com/gpu"
  rm /etc/cdi/nvidia.json
  stat -c 'the binary has %s bytes' "$(built oci-hook-inject)"
}

# A machine of the image's tree made ready with all that the driver has, and that taken back.
bench_nspawn() {
  local program prepare cleanup
  program=$(built oci-hook-inject)
  mkdir "$ROOM/machine"
  tar -C "$ROOM/machine" -xf "$CACHE/image/debian.tar"
  generate_json >/etc/cdi/nvidia.json
  # What is prepared lies in /run: another than this machine's.
  mount -t tmpfs -o mode=0755 tmpfs /run
  mkdir /run/systemd
  prepare="$program nspawn-prepare --machine=bench --directory=$ROOM/machine --device=nvidia.com/gpu=all --spec-dir=/etc/cdi"
  cleanup="$program nspawn-cleanup --machine=bench"
  $prepare 2>/dev/null
  say "oci-hook-inject nspawn-prepare, $(grep -c /run/gpuspec/nspawn/bench /proc/self/mountinfo) mounts, then nspawn-cleanup"
  BEFORE=$cleanup measure "${ROUNDS:-100}" /bin/true "$prepare" 2>/dev/null
  BEFORE="$prepare 2>/dev/null" measure "${ROUNDS:-100}" /bin/true "$cleanup"
  $cleanup
  umount /run
  rm /etc/cdi/nvidia.json
}

bench_podman() {
  local runtime
  generate_json >/etc/cdi/nvidia.json
  jq 'del(.containerEdits.hooks) | .kind = "example.com/nohook"' /etc/cdi/nvidia.json >/etc/cdi/nohook.json
  for runtime in crun runc; do
    say "podman run of a Debian image with $runtime: without the device, with it but no hook, with it"
    measure "${ROUNDS:-40}" "podman --runtime $(command -v "$runtime") run --rm $IMAGE true" \
      "podman --runtime $(command -v "$runtime") run --rm --device=example.com/nohook=all $IMAGE true" \
      "podman --runtime $(command -v "$runtime") run --rm --device=nvidia.com/gpu=all $IMAGE true"
  done
}

generate_json() {
  "$(built cdi-gen)" generate --root "$ROOM/host" --hook-path "$(built oci-hook)" --format json
}

inside() {
  gcc -O2 -o "$ROOM/measure" "$here/measure.c"
  podman_room
  debian_image
  simulated_root "$ROOM/host" "$DRIVER"
  for bench in "$@"; do
    "bench_$bench"
  done
}

case ${1:-} in
  inside) inside "${@:2}" ;;
  *)
    [ $# -gt 0 ] || set -- generate hook precreate nspawn podman
    is_root || die 'needs root, for containers and mounts'
    prepare_cache
    need_rust
    need podman=podman crun=crun runc=runc jq=jq
    driver_installed "$DRIVER"
    build_programs
    in_private_mounts "$0" inside "$@"
    ;;
esac
