#!/usr/bin/env bash
# A real driver in real containers: cdi-gen's spec for a simulated two-GPU host, run by podman under crun and runc.
# Usage: tests/e2e/podman.sh [550|535]   (root; everything else it needs it installs, or it says what is missing)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver host image podman peer; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done

DRIVER=${1:-550}
TREE=installed
GPU=nvidia.com/gpu

# ---- what must be there ------------------------------------------------------------------------------------------

# why_not: why these checks cannot run on this machine, or nothing.
why_not() {
  [ ! -e /proc/driver/nvidia/version ] || { echo 'a real NVIDIA driver would answer for the simulated GPUs'; return; }
  need podman=podman crun=crun runc=runc unshare=util-linux || { echo 'needs podman, crun and runc'; return; }
  mknod -m 0600 "$ROOM/node" c 195 254 || { echo 'needs CAP_MKNOD'; return; }
  case $(LC_ALL=C bash -c ': <"$1"' x "$ROOM/node" 2>&1) in
    *'not permitted'*) echo "this machine's own device cgroup denies 195:254" ;;
  esac
}

prepare() {
  local version
  need_rust
  build_programs
  driver_root "$DRIVER"
  driver_installed "$DRIVER"
  mkdir "$ROOM/host"
  version=$(driver_version "$DRIVER")
  simulated_host "$ROOM/host" "$version"
  gcc -O2 -o "$ROOM/probe" "$here/probe.c" -ldl
}

generate() {
  "$(built cdi-gen)" generate --driver-root "$CACHE/driver-$DRIVER/$TREE" --dev-root "$ROOM/host" \
    --proc-root "$ROOM/host" --sys-root "$ROOM/host" --hook-path "$(built oci-hook)" "$@"
}

# ---- how a container is run --------------------------------------------------------------------------------------

# A hang is a failure that says so, of the hook (podman's time) and of the program inside (the container's).
runtime() { timeout --kill-after=10 90 podman --runtime "$(command -v "$RUNTIME")" "$@"; }
box() { runtime run --rm --timeout 60 --volume "$ROOM/probe:/probe:ro" "$@"; }
gpu_box() { box --device "$GPU=all" "$@"; }

# equal WHAT EXPECTED: what stands on stdin is EXPECTED, to the letter.
equal() { diff -u --label "$1, expected" --label "$1, found" <([ -z "$2" ] || printf '%s\n' "$2") -; }
holds() { grep -F -- "$1" || { echo "missing: $1"; return 1; }; }

# ---- the checks --------------------------------------------------------------------------------------------------

spec_is_installed() {
  generate --install
  [ "$(stat -c '%a' /etc/cdi/nvidia.com-gpu.yaml)" = 644 ]
  generate | cmp - /etc/cdi/nvidia.com-gpu.yaml
  "$(built cdi-gen)" validate /etc/cdi/nvidia.com-gpu.yaml
  "$(built cdi-gen)" list | holds "$GPU=all"
}

libraries_load() {
  gpu_box "$IMAGE" /probe cuda nvml | equal answers $'cuInit 100\nnvmlInit_v2 9'
}

loader_cache_lists_the_driver() {
  gpu_box "$IMAGE" ldconfig -p | holds 'libcuda.so.1 (libc6,x86-64)'
}

own_ldconfig_keeps_the_driver() {
  gpu_box "$IMAGE" sh -c 'ldconfig && ldconfig -p && /probe cuda' >"$ROOM/out"
  holds 'libcuda.so.1 (libc6,x86-64)' <"$ROOM/out"
  holds 'cuInit 100' <"$ROOM/out"
}

nvidia_smi_runs() {
  gpu_box "$IMAGE" sh -c 'command -v nvidia-smi; nvidia-smi; echo "exit $?"' >"$ROOM/out" 2>&1
  holds /usr/bin/nvidia-smi <"$ROOM/out"
  # Its own words for "the library loaded, the kernel module is not there".
  holds "couldn't communicate with the NVIDIA driver" <"$ROOM/out"
  holds 'exit 9' <"$ROOM/out"
}

device_cgroup_allows() {
  gpu_box "$IMAGE" /probe /dev/nvidiactl /dev/nvidia0 /dev/nvidia1 /dev/nvidia-modeset |
    equal answers $'open /dev/nvidiactl ENXIO\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO\nopen /dev/nvidia-modeset ENXIO'
}

# The counterpart, without which the check above would prove nothing.
device_cgroup_denies_the_rest() {
  gpu_box --cap-add MKNOD "$IMAGE" sh -c 'mknod /other c 195 7 && /probe /other' | equal answers 'open /other EPERM'
}

one_device_is_one_gpu() {
  local uuid
  box --device "$GPU=1" "$IMAGE" /probe /dev/nvidia0 /dev/nvidia1 /dev/nvidiactl |
    equal answers $'open /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO\nopen /dev/nvidiactl ENXIO'
  uuid=$(cut -d'|' -f3 <<<"${HOST_GPUS[0]}")
  box --device "$GPU=$uuid" "$IMAGE" /probe /dev/nvidia0 /dev/nvidia1 |
    equal answers $'open /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
}

render_nodes_have_their_links() {
  gpu_box "$IMAGE" find /dev/dri/by-path -type l -printf '%f %l\n' | sort |
    equal links "$(find "$ROOM/host/dev/dri/by-path" -type l -printf '%f %l\n' | sort)"
}

mounts_are_read_only() {
  gpu_box "$IMAGE" sh -c 'grep nvidia-smi /proc/self/mountinfo' | grep -E ' ro,nosuid[, ]' ||
    { echo 'nvidia-smi: not mounted ro,nosuid'; return 1; }
  gpu_box "$IMAGE" sh -c 'echo x >>/usr/bin/nvidia-smi' && { echo 'nvidia-smi could be written'; return 1; }
  return 0
}

environment_is_void() {
  gpu_box "$IMAGE" printenv NVIDIA_VISIBLE_DEVICES | equal NVIDIA_VISIBLE_DEVICES void
}

# E05: podman writes the spec's hooks anew for the runtime; without an environment an old runc would give it the image's.
hooks_keep_environment_and_timeout() {
  local name=libgpuspec-hooked
  need jq=jq
  runtime rm --force --ignore "$name" >/dev/null
  runtime create --name "$name" --device "$GPU=all" "$IMAGE" true >/dev/null
  runtime init "$name" >/dev/null
  jq -c '.hooks.createContainer[] | [.path, .env, .timeout]' "$(runtime inspect --format '{{.OCIConfigPath}}' "$name")" >"$ROOM/out"
  runtime rm --force "$name" >/dev/null
  jq -e -s 'length > 0 and all(.[1] | length > 0)' "$ROOM/out"
  generate --format json | jq -c '.containerEdits.hooks[] | [.path, .env, .timeout]' | diff -u - "$ROOM/out"
}

# What podman itself mounts or writes anew at each start is not the hook's doing.
restart_changes_nothing() {
  local name=libgpuspec-restart
  podman rm --force --ignore "$name" >/dev/null
  runtime create --name "$name" --device "$GPU=all" "$IMAGE" find / -xdev -mindepth 1 \( -path /proc -o -path /sys -o -path /dev \
    -o -path /run -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf \) -prune -o \
    -printf '%p %y %m %s %i %T@ %C@ %l\n' >/dev/null
  runtime start --attach "$name" | sort >"$ROOM/first"
  runtime start --attach "$name" | sort >"$ROOM/second"
  runtime rm "$name" >/dev/null
  holds /etc/ld.so.conf.d/00-gpuspec.conf <"$ROOM/first"
  diff -u "$ROOM/first" "$ROOM/second"
}

# Under crun before 1.26 the root is read-only already when the hook runs: nothing can be linked or cached.
read_only_root_still_loads() {
  gpu_box --read-only "$IMAGE" /probe cuda nvml libnvcuvid.so.1 libnvidia-encode.so.1 |
    equal answers $'cuInit 100\nnvmlInit_v2 9\ndlopen libnvcuvid.so.1 ok\ndlopen libnvidia-encode.so.1 ok'
}

# What this podman knows no version of is refused, until it is converted for it.
converted_specs_are_read() {
  cat >"$ROOM/new.yaml" <<'END'
cdiVersion: "1.1.0"
kind: example.com/converted
annotations: {for: people}
devices:
- name: "010"
  containerEdits:
    env: ["CONVERTED=on"]
    deviceNodes: [{path: /dev/converted, hostPath: /dev/null, permissions: rw}]
    additionalGids: [44]
    intelRdt: {closID: x, enableMonitoring: true}
END
  cp "$ROOM/new.yaml" /etc/cdi/converted.yaml
  box --device example.com/converted=010 "$IMAGE" true && { echo 'read without being converted'; return 1; }
  "$(built cdi-gen)" convert --target "podman-$(podman --version | awk '{ print $3 }')" "$ROOM/new.yaml" \
    --output /etc/cdi/converted.yaml
  box --device example.com/converted=010 "$IMAGE" sh -c 'echo x >/dev/converted && printenv CONVERTED' | equal CONVERTED on
  rm /etc/cdi/converted.yaml
}

# What nvidia-ctk wrote, with a link to our hook in the place of its own. Of another kind, so that both can stand there.
specs_of_the_peer_are_served() {
  local GPU=peer.example/gpu
  mkdir -p "$ROOM/peer"
  ln -sf "$(built oci-hook)" "$ROOM/peer/nvidia-cdi-hook"
  peer_spec "$CACHE/driver-$DRIVER/$TREE" "$ROOM/peer/nvidia-cdi-hook" "$ROOM/host/dev" | sed "s|^kind: .*|kind: $GPU|" >/etc/cdi/peer.yaml
  gpu_box "$IMAGE" /probe cuda nvml libnvcuvid.so.1 /dev/nvidia0 /dev/nvidia1 |
    equal answers $'cuInit 100\nnvmlInit_v2 9\ndlopen libnvcuvid.so.1 ok\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'
  gpu_box "$IMAGE" find /dev/dri/by-path -type l -printf '%f %l\n' | sort |
    equal links "$(find "$ROOM/host/dev/dri/by-path" -type l -printf '%f %l\n' | sort)"
  gpu_box "$IMAGE" ldconfig -p | holds 'libcuda.so.1 (libc6,x86-64)'
  rm /etc/cdi/peer.yaml
}

# ---- odd images: each starts, with the driver, and nothing outside its root is written ---------------------------

# odd_image NAME SHELL: $IMAGE with SHELL run in its root directory (by the machine's own shell, not inside).
odd_image() {
  local container root
  ODD=localhost/libgpuspec-odd:$1
  container=$(podman create "$IMAGE" true)
  root=$(podman mount "$container")
  (cd "$root" && eval "$2")
  podman umount "$container" >/dev/null
  podman commit --quiet "$container" "$ODD" >/dev/null
  podman rm "$container" >/dev/null
}

odd_starts() {
  odd_image "$1" "$2"
  # An image that podman cannot start without a GPU either would say nothing of ours.
  box "$ODD" /probe >/dev/null || { echo 'podman cannot start this image at all'; return 1; }
  gpu_box "$ODD" /probe cuda | equal answers 'cuInit 100'
  podman rmi "$ODD" >/dev/null
}

escaping_etc_changes_nothing_outside() {
  local outside=/run/libgpuspec-outside
  rm -rf "$outside"
  mkdir "$outside"
  odd_starts "$1" "$2"
  find "$outside" -mindepth 1 | equal "$outside" ''
  rmdir "$outside"
}

odd_checks() {
  check "$RUNTIME: ld.so.conf is a FIFO" odd_starts fifo 'rm etc/ld.so.conf && mkfifo etc/ld.so.conf'
  check "$RUNTIME: ld.so.conf is a directory" odd_starts directory 'rm etc/ld.so.conf && mkdir etc/ld.so.conf'
  check "$RUNTIME: ld.so.conf has no include" odd_starts no-include 'echo /usr/local/lib >etc/ld.so.conf'
  check "$RUNTIME: no loader cache" odd_starts no-cache 'rm etc/ld.so.cache'
  check "$RUNTIME: a damaged loader cache" odd_starts bad-cache 'truncate -s 100 etc/ld.so.cache'
  check "$RUNTIME: ld.so.conf.d is a dangling link" odd_starts conf-d 'rm -r etc/ld.so.conf.d && ln -s /nowhere etc/ld.so.conf.d'
  check "$RUNTIME: no /etc" odd_starts no-etc 'rm -rf etc'
  # podman 4.3 itself opens /etc, so it must lead somewhere inside; tests/hook.rs has it dangling.
  check "$RUNTIME: /etc leads out of the root" escaping_etc_changes_nothing_outside etc-escaping \
    'mv etc run/libgpuspec-outside && ln -s ../../../../../../../../run/libgpuspec-outside etc'
}

checks() {
  check "$RUNTIME: libcuda and libnvidia-ml load and answer" libraries_load
  check "$RUNTIME: ldconfig -p lists the driver" loader_cache_lists_the_driver
  check "$RUNTIME: the image's own ldconfig keeps it" own_ldconfig_keeps_the_driver
  check "$RUNTIME: nvidia-smi runs" nvidia_smi_runs
  check "$RUNTIME: the device cgroup allows the GPUs" device_cgroup_allows
  check "$RUNTIME: and no other device" device_cgroup_denies_the_rest
  check "$RUNTIME: one GPU by index, by UUID" one_device_is_one_gpu
  check "$RUNTIME: by-path links of the render nodes" render_nodes_have_their_links
  check "$RUNTIME: mounts are read-only and nosuid" mounts_are_read_only
  check "$RUNTIME: NVIDIA_VISIBLE_DEVICES is void" environment_is_void
  check "$RUNTIME: the hook's environment and timeout reach the runtime" hooks_keep_environment_and_timeout
  check "$RUNTIME: a restart changes nothing" restart_changes_nothing
  check "$RUNTIME: a read-only root loads the libraries" read_only_root_still_loads
  check "$RUNTIME: a spec converted for this podman is read" converted_specs_are_read
  check "$RUNTIME: a spec of nvidia-ctk, with our hook by the name of its own" specs_of_the_peer_are_served
  odd_checks
}

all_checks() {
  local reason
  reason=$(why_not)
  [ -z "$reason" ] || {
    skip "podman, driver $DRIVER" "$reason"
    return
  }
  prepare
  podman_room
  debian_image
  check "driver $DRIVER: the spec is generated and installed" spec_is_installed
  for RUNTIME in crun runc; do
    if box "$IMAGE" true 2>"$ROOM/err"; then
      checks
    else
      skip "podman with $RUNTIME, driver $DRIVER" "a plain container does not start here: $(tail -n 1 "$ROOM/err")"
    fi
  done
  RUNTIME=crun TREE=root
  check "driver $DRIVER, unpacked only: generated and installed" spec_is_installed
  check "driver $DRIVER, unpacked only: loads and answers" libraries_load
  check "driver $DRIVER, unpacked only: loads in a read-only root" read_only_root_still_loads
}

case ${2:-} in
  inside) all_checks ;;
  *)
    prepare_cache
    if is_root; then
      in_private_mounts "$0" "$DRIVER" inside
    else
      skip "podman, driver $DRIVER" 'needs root (mknod, podman with device nodes)'
    fi
    report
    ;;
esac
