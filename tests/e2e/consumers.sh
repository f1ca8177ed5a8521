#!/usr/bin/env bash
# Newer engines read what cdi-gen writes: podman and containerd of a newer Debian suite, in a root made from packages.
# Usage: tests/e2e/consumers.sh [trixie|sid]   (root; everything else it needs it installs, or it says what is missing)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver host image podman suite; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done

SUITE=${1:-trixie}
DRIVER=550
KIND=example.com/gpu
# YAML readers of old make a truth value, an octal number, one of base 60, a float and nothing of these.
NAMES=(on 010 1:0 1e3 null)
VERSIONS=(0.3.0 0.4.0 0.5.0 0.6.0 0.7.0 0.8.0 1.0.0 1.1.0)

# ---- specs -------------------------------------------------------------------------------------------------------

# every_field: a spec of all fields but one, network devices. Cache allocation is asked for by a device of its own, for
# no container gets it without the hardware.
every_field() {
  local name
  cat <<END
cdiVersion: "1.1.0"
kind: $KIND
annotations: {for: people}
containerEdits:
  env: [FILE=every-field]
devices:
- name: full
  annotations: {for: people}
  containerEdits:
    env: ["FULL=a=b c"]
    deviceNodes:
    - {path: /dev/given, hostPath: /dev/null, type: c, major: 1, minor: 3, fileMode: 432, permissions: rw, uid: 7, gid: 8}
    - {path: /dev/found, hostPath: /dev/zero}
    mounts:
    - {hostPath: $ROOM/share, containerPath: /share, type: bind, options: [rbind, rw]}
    - {hostPath: $ROOM/rootfs/bin, containerPath: /read/only, options: [bind, ro, nosuid]}
    - {hostPath: tmpfs, containerPath: /scratch, type: tmpfs, options: [nosuid, size=64k]}
    additionalGids: [44, 1234]
    hooks:
$(hooks)
- name: rdt
  containerEdits:
    intelRdt: {closID: x, l3CacheSchema: "L3:0=f", memBwSchema: "MB:0=20", schemata: ["L3:0=f"], enableMonitoring: true}
END
  for name in "${NAMES[@]}"; do
    printf -- '- name: "%s"\n  containerEdits: {env: ["NAME=%s"]}\n' "$name" "$name"
  done
}

# One of each kind; each leaves its name, as it finds it in its environment, in the directory that is mounted at /share.
# It reads its input first: crun itself dies of a hook that ends before it was told all (SIGPIPE).
HOOKS=(createContainer createRuntime poststart poststop prestart startContainer)
hooks() {
  local hook share
  for hook in "${HOOKS[@]}"; do
    share=$ROOM/share
    [ "$hook" != startContainer ] || share=/share
    # shellcheck disable=SC2016 # expanded by the hook
    printf '    - {hookName: %s, path: /bin/sh, args: [sh, -c, '"'cat >/dev/null; echo \$HOOK >>%s/hooks'"'], env: [HOOK=%s], timeout: 10}\n' \
      "$hook" "$share" "$hook"
  done
}

network_devices() {
  printf 'cdiVersion: "1.1.0"\nkind: %s\ndevices:\n- name: net\n  containerEdits:\n    env: [NAME=net]\n' "$KIND"
  printf '    netDevices: [{hostInterfaceName: lo, name: net0}]\n- name: plain\n  containerEdits: {env: [A=B]}\n'
}

# converted FILE [--json]: every_field as this engine's release can read it, in /etc/cdi.
converted() { every_field | cdi-gen convert --target "$ENGINE-$RELEASE" ${2:+"$2"} --output "/etc/cdi/$1" -; }

# ---- how a container is run --------------------------------------------------------------------------------------

# run_on NAME COMMAND…: in a container that was given the device NAME of our kind.
run_on() { "run_$ENGINE" "$KIND=$1" "${@:2}"; }

run_podman() {
  timeout --kill-after=10 60 podman --runtime "$(command -v "$RUNTIME")" run --rm --timeout 30 ${1:+--device "$1"} \
    --rootfs "${ROOTFS:-$ROOM/rootfs}" "${@:2}"
}

run_containerd() {
  timeout --kill-after=10 60 ctr --address "$ROOM/ctr.sock" run --rm --runc-binary "$(command -v "$RUNTIME")" \
    --env PATH=/usr/sbin:/usr/bin:/bin ${1:+--device "$1"} --rootfs "${ROOTFS:-$ROOM/rootfs}" "check-$BASHPID" "${@:2}"
}

containerd_starts() {
  cat >"$ROOM/containerd.toml" <<END
version = 2
root = "$ROOM/containerd"
state = "$ROOM/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"]
[grpc]
address = "$ROOM/ctr.sock"
END
  containerd --config "$ROOM/containerd.toml" >"$ROOM/containerd.log" 2>&1 &
  echo $! >"$ROOM/containerd.pid"
  for _ in $(seq 100); do
    ! ctr --address "$ROOM/ctr.sock" version >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  tail -n 20 "$ROOM/containerd.log"
  return 1
}

containerd_ends() { kill "$(cat "$ROOM/containerd.pid")"; }

equal() { diff -u --label "$1, expected" --label "$1, found" <(printf '%s\n' "$2") -; }

# ---- the checks --------------------------------------------------------------------------------------------------

every_field_arrives() {
  converted every.yaml
  rm -f "$ROOM/share/hooks"
  # shellcheck disable=SC2016 # expanded inside
  run_on full sh -ec '
    echo "$FILE, $FULL"
    stat -c "%F %t:%T %a %u:%g" /dev/given
    echo thrown away >/dev/given
    stat -c "%t:%T" /dev/found
    head -c 2 /dev/found | od -An -tx1
    echo written >/share/file
    if echo x 2>/dev/null >/read/only/file; then echo writable; fi
    test -x /read/only/busybox
    grep -o " /scratch rw,nosuid" /proc/self/mountinfo
    id -G' | equal 'what is inside' "every-field, a=b c
character special file 1:3 660 7:8
1:5
 00 00
 /scratch rw,nosuid
0 44 1234"
  equal 'the shared file' written <"$ROOM/share/file"
}

# A container's end is awaited by its engine, the last hook's not by every one.
hooks_ran() {
  local _
  for _ in $(seq 50); do
    [ "$(sort -u "$ROOM/share/hooks" 2>/dev/null | wc -l)" -lt ${#HOOKS[@]} ] || break
    sleep 0.1
  done
  sort "$ROOM/share/hooks" | equal 'the hooks that ran' "$(printf '%s\n' "${HOOKS[@]}")"
}

odd_names_are_found() {
  local name
  converted "every.$1" ${2:+"$2"}
  for name in "${NAMES[@]}"; do
    # shellcheck disable=SC2016 # expanded inside
    run_on "$name" sh -c 'echo "$FILE $NAME"' | equal "$name" "every-field $name"
  done
  rm "/etc/cdi/every.$1"
}

# Without this one the others could pass by an engine that asks nobody.
unknown_name_is_refused() {
  converted every.yaml
  if run_on 8 true; then echo 'started with a device that nobody defines'; return 1; fi
}

# A container must not start without its network devices: they come, or the spec cannot be had for this release.
network_devices_are_kept_or_refused() {
  local status=0
  network_devices | cdi-gen convert --target "$ENGINE-$RELEASE" --output /etc/cdi/net.yaml - || status=$?
  if [ $status = 0 ]; then
    grep -q net0 /etc/cdi/net.yaml
    run_on plain true
  else
    [ $status = 4 ]
  fi
}

versions_are_those_of_the_table() {
  local version wrong=0
  for version in "${VERSIONS[@]}"; do
    printf 'cdiVersion: "%s"\nkind: %s\ndevices: [{name: d, containerEdits: {env: [A=B]}}]\n' "$version" "$KIND" \
      >/etc/cdi/version.yaml
    if run_on d true; then echo "$version: read" >"$ROOM/found"; else echo "$version: refused" >"$ROOM/found"; fi
    if reads "$version"; then echo "$version: read"; else echo "$version: refused"; fi | diff - "$ROOM/found" || wrong=1
  done
  return $wrong
}

# reads VERSION: whether libgpuspec's table says that this release reads it. /etc/cdi/version.yaml declares it.
reads() {
  local since
  since=$(cdi-gen explain "$KIND=d" | sed -nE "s/.*declares version $1: readable from .*\\b$ENGINE ([0-9.]+).*/\\1/p")
  [ -n "$since" ] && printf '%s\n' "$since" "$RELEASE" | sort --version-sort --check=quiet
}

# The main job: a real driver's spec with its hook, as the engine's release can read it, in a plain Debian.
driver_loads() {
  local ROOTFS=$ROOM/debian
  rm -rf "$ROOTFS"
  mkdir "$ROOTFS"
  tar --extract --file /run/image/debian.tar --directory "$ROOTFS"
  cp /run/programs/probe "$ROOTFS"
  cdi-gen generate --driver-root /run/driver --dev-root "$ROOM/host" --proc-root "$ROOM/host" --sys-root "$ROOM/host" \
    --hook-path /run/programs/oci-hook --target "$ENGINE-$RELEASE" --output /etc/cdi/nvidia.yaml
  KIND=nvidia.com/gpu run_on all sh -c '
    /probe cuda nvml
    ldconfig -p | grep -o "libcuda.so.1 (libc6,x86-64)"
    ls -d /dev/nvidia[0-9]' | equal 'what is inside' "cuInit 100
nvmlInit_v2 9
libcuda.so.1 (libc6,x86-64)
/dev/nvidia0
/dev/nvidia1"
  rm /etc/cdi/nvidia.yaml
}

checks() {
  local what="$SUITE, $ENGINE $RELEASE, $RUNTIME"
  if ! "run_$ENGINE" '' true >"$ROOM/err" 2>&1; then
    skip "$what" "a plain container does not start here: $(tail -n 1 "$ROOM/err")"
    return
  fi
  if ! run_on none true >"$ROOM/err" 2>&1 && grep -q 'error stating device path' "$ROOM/err"; then
    skip "$what" "this ctr takes only paths as devices; its CRI knows CDI, but no client of it is packaged"
    return
  fi
  check "$what: every field of a converted spec arrives" every_field_arrives
  check "$what: hooks of all six kinds run" hooks_ran
  check "$what: names that YAML might read otherwise, from YAML" odd_names_are_found yaml
  check "$what: names that YAML might read otherwise, from JSON" odd_names_are_found json --json
  check "$what: an unknown name is refused" unknown_name_is_refused
  check "$what: network devices are kept or refused" network_devices_are_kept_or_refused
  rm -f /etc/cdi/*
  check "$what: the versions it reads are those of the table" versions_are_those_of_the_table
  rm -f /etc/cdi/*
  if [ -e /proc/driver/nvidia/version ]; then
    skip "$what: a generated spec" 'a real NVIDIA driver would answer for the simulated GPUs'
  else
    check "$what: a generated spec gives driver $DRIVER and its lines in the loader cache" driver_loads
  fi
}

# release COMMAND: the upstream release of it.
release() { "$1" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1; }

inside() {
  mkdir -p /etc/cdi "$ROOM/share" "$ROOM/rootfs"/{bin,dev,proc,sys,tmp,etc}
  cp /bin/busybox "$ROOM/rootfs/bin"
  chroot "$ROOM/rootfs" /bin/busybox --install -s /bin
  mkdir "$ROOM/host"
  simulated_host "$ROOM/host" "$(cat /run/programs/driver-version)"
  podman_room
  ENGINE=podman RELEASE=$(release podman)
  for RUNTIME in crun runc; do checks; done
  ENGINE=containerd RELEASE=$(release containerd)
  trap containerd_ends EXIT
  check "$SUITE, containerd $RELEASE starts" containerd_starts
  for RUNTIME in crun runc; do checks; done
}

case ${2:-} in
  enter) enter_suite "$SUITE" "$DRIVER" "$0" "$SUITE" inside ;;
  inside) inside ;;
  *)
    prepare_cache
    if is_root; then
      need_rust
      build_programs
      driver_installed "$DRIVER"
      cached image "$IMAGE" make_debian_tar
      suite_root "$SUITE"
      in_private_mounts "$0" "$SUITE" enter
    else
      skip "podman and containerd of $SUITE" 'needs root (mounts, containers)'
    fi
    report
    ;;
esac
