#!/usr/bin/env bash
# GPUs for containers whose engine is not asked for a CDI device: podman with an entry of hooks.d (precreate).
# Usage: tests/e2e/hooks.sh [550|535]   (root; everything else it needs it installs, or it says what is missing)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver host image podman; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done

DRIVER=${1:-550}
GPU=nvidia.com/gpu

# ---- what must be there ------------------------------------------------------------------------------------------

why_not() {
  need podman=podman crun=crun runc=runc jq=jq || { echo 'needs podman, crun, runc and jq'; return; }
  mknod -m 0600 "$ROOM/node" c 195 254 || echo 'needs CAP_MKNOD'
}

prepare() {
  need_rust
  build_programs
  driver_installed "$DRIVER"
  mkdir "$ROOM/host" "$ROOM/hooks.d"
  simulated_host "$ROOM/host" "$(driver_version "$DRIVER")"
  gcc -O2 -o "$ROOM/probe" "$here/probe.c" -ldl
  generate --install
}

of_the_host() {
  "$(built cdi-gen)" "$1" --driver-root "$CACHE/driver-$DRIVER/installed" --dev-root "$ROOM/host" \
    --proc-root "$ROOM/host" --sys-root "$ROOM/host" "${@:2}"
}
generate() { of_the_host generate --hook-path "$(built oci-hook)" "$@"; }

# entry ARG…: the one entry of hooks.d. What cdi-gen cannot know is where this host's /proc and /sys are simulated.
entry() {
  "$(built cdi-gen)" hooks install --hooks-dir "$ROOM/hooks.d" --hook-path "$(built oci-hook-inject)" "$@" 2>/dev/null
  jq --arg host "$ROOM/host" '.hook.args += ["--proc-root", $host, "--sys-root", $host, "--dev-root", $host]' \
    "$ROOM/hooks.d/gpuspec.json" >"$ROOM/entry"
  cp "$ROOM/entry" "$ROOM/hooks.d/gpuspec.json"
}

box() {
  timeout --kill-after=10 90 podman --hooks-dir "$ROOM/hooks.d" --runtime "/usr/bin/$RUNTIME" run --rm --timeout 60 \
    --volume "$ROOM/probe:/probe:ro" "$@"
}

equal() { diff -u --label "$1, expected" --label "$1, found" <([ -z "$2" ] || printf '%s\n' "$2") -; }
holds() { grep -F -- "$1" || { echo "missing: $1"; return 1; }; }
refused() { if "$@" 2>"$ROOM/err"; then echo 'it started'; return 1; fi; }

# ---- podman's containers ------------------------------------------------------------------------------------------

ALL=$'cuInit 100\nnvmlInit_v2 9\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'

device_for_everybody() {
  entry --device $GPU=all
  box "$IMAGE" /probe cuda nvml /dev/nvidia0 /dev/nvidia1 | equal answers "$ALL"
}

an_image_asks() {
  entry --allow-environment $GPU
  box --env NVIDIA_VISIBLE_DEVICES=all "$IMAGE" /probe cuda nvml /dev/nvidia0 /dev/nvidia1 | equal answers "$ALL"
  box --env NVIDIA_VISIBLE_DEVICES=1 "$IMAGE" /probe cuda /dev/nvidia0 /dev/nvidia1 |
    equal answers $'cuInit 100\nopen /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO'
  box --env NVIDIA_VISIBLE_DEVICES=all "$IMAGE" printenv NVIDIA_VISIBLE_DEVICES | equal variable void
}

an_image_is_not_heard() {
  local variable
  entry --allow-annotations $GPU
  box --env NVIDIA_VISIBLE_DEVICES=all "$IMAGE" /probe /dev/nvidia0 | equal answers 'open /dev/nvidia0 ENOENT'
  entry --allow-environment $GPU
  for variable in void ''; do
    box --env NVIDIA_VISIBLE_DEVICES=$variable "$IMAGE" /probe /dev/nvidia0 | equal answers 'open /dev/nvidia0 ENOENT'
  done
  box --annotation cdi.k8s.io/x=$GPU=all "$IMAGE" /probe /dev/nvidia0 | equal answers 'open /dev/nvidia0 ENOENT'
}

an_annotation_asks() {
  entry --allow-annotations $GPU
  box --annotation cdi.k8s.io/x=$GPU=0 "$IMAGE" /probe cuda /dev/nvidia0 /dev/nvidia1 |
    equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
}

the_driver_alone() {
  entry --allow-environment $GPU
  box --env NVIDIA_VISIBLE_DEVICES=none "$IMAGE" /probe nvml /dev/nvidia0 | equal answers $'nvmlInit_v2 9\nopen /dev/nvidia0 ENOENT'
}

capabilities_are_a_filter() {
  entry --allow-environment $GPU
  box --env NVIDIA_VISIBLE_DEVICES=all --env NVIDIA_DRIVER_CAPABILITIES=utility "$IMAGE" sh -c \
    '/probe nvml; nvidia-smi >/dev/null 2>&1; echo $?; ldconfig -p | grep -c libcuda; find / -xdev -name "libcuda*" | wc -l' |
    equal answers $'nvmlInit_v2 9\n9\n0\n0'
}

conditions_are_checked() {
  entry --allow-environment $GPU
  box --env NVIDIA_VISIBLE_DEVICES=all --env 'NVIDIA_REQUIRE_CUDA=cuda>=12.0 driver>=1' "$IMAGE" /probe cuda | equal answers 'cuInit 100'
  refused box --env NVIDIA_VISIBLE_DEVICES=all --env 'NVIDIA_REQUIRE_CUDA=cuda>=99.0' "$IMAGE" true
}

unknown_devices_are_refused() {
  entry --allow-environment $GPU
  refused box --env NVIDIA_VISIBLE_DEVICES=7 "$IMAGE" true
}

read_only_and_user_namespace() {
  entry --device $GPU=all
  box --read-only "$IMAGE" /probe cuda nvml /dev/nvidia0 /dev/nvidia1 | equal answers "$ALL"
  # In a user namespace runc binds the machine's own node of that path, and a simulated host has it elsewhere.
  [ "$RUNTIME" = runc ] || box --uidmap 0:100000:65536 "$IMAGE" /probe cuda nvml | equal answers $'cuInit 100\nnvmlInit_v2 9'
}

checks() {
  check "$RUNTIME: precreate: a device for every container" device_for_everybody
  check "$RUNTIME: precreate: NVIDIA_VISIBLE_DEVICES asks, where it may" an_image_asks
  check "$RUNTIME: precreate: and is not heard where it may not" an_image_is_not_heard
  check "$RUNTIME: precreate: an annotation asks, where it may" an_annotation_asks
  check "$RUNTIME: precreate: none is the driver without a GPU" the_driver_alone
  check "$RUNTIME: precreate: capabilities are a filter" capabilities_are_a_filter
  check "$RUNTIME: precreate: NVIDIA_REQUIRE_CUDA is checked" conditions_are_checked
  check "$RUNTIME: precreate: a read-only root, a user namespace" read_only_and_user_namespace
  check "$RUNTIME: precreate: an unknown GPU keeps the container from starting" unknown_devices_are_refused
}

# ---- bundles of runc and crun, whose config has the hook and no device -------------------------------------------

# bundle ROOT-OPTIONS JQ [ARG…]: $ROOM/bundle with a fresh root, config.json changed by the jq program.
bundle() {
  mkdir -p "$ROOM/image" "$ROOM/bundle/rootfs" "$ROOM/over"
  [ -d "$ROOM/image/usr" ] || tar -C "$ROOM/image" -xf "$CACHE/image/debian.tar"
  ! mountpoint -q "$ROOM/bundle/rootfs" || umount "$ROOM/bundle/rootfs"
  rm -rf "$ROOM/over" && mkdir -p "$ROOM/over/up" "$ROOM/over/work"
  mount -t overlay overlay -o "lowerdir=$ROOM/image,upperdir=$ROOM/over/up,workdir=$ROOM/over/work" "$ROOM/bundle/rootfs"
  cp "$ROOM/probe" "$ROOM/bundle/rootfs/probe"
  rm -f "$ROOM/bundle/config.json"
  (cd "$ROOM/bundle" && runc spec)
  jq '.process.terminal = false | .root.readonly = false | .process.env += ["NVIDIA_VISIBLE_DEVICES=all"] |
    .linux.namespaces |= map(select(.type != "network"))' "$ROOM/bundle/config.json" >"$ROOM/config"
  jq "$@" "$ROOM/config" >"$ROOM/bundle/config.json"
}

# hooked STAGE FIRST-WORD ARG…: a bundle whose config has this hook, and whose program asks the driver.
hooked() {
  local stage=$1 hook
  hook=$(built oci-hook-inject)
  shift
  # crun has hooks' words nowhere unless told where.
  bundle --arg stage "$stage" --arg hook "$hook" --arg said "$ROOM/said" --argjson args "$(printf '%s\n' "$@" | jq -R . | jq -s .)" \
    ".hooks[\$stage] = [{path: \$hook, args: \$args, env: [\"LC_ALL=C\"], timeout: 10}] |
    .annotations[\"run.oci.hooks.stderr\"] = \$said |
    .process.args = [\"/probe\", \"cuda\", \"nvml\", \"/dev/nvidia0\", \"/dev/nvidia1\"]"
}

started() {
  timeout --kill-after=10 60 "/usr/bin/$RUNTIME" run --bundle "$ROOM/bundle" libgpuspec-hooks
}

# refused_saying WORD: the container does not start, and the hook says why.
refused_saying() {
  : >"$ROOM/said"
  refused started
  cat "$ROOM/said" "$ROOM/err" >"$ROOM/all"
  holds "$1" <"$ROOM/all" || { cat "$ROOM/all"; return 1; }
}

GRANTED=$'cuInit 100\nnvmlInit_v2 9\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'
# What NVML makes of nodes that it sees and may not open is 999.
VISIBLE=$'cuInit 100\nnvmlInit_v2 999\nopen /dev/nvidia0 EPERM\nopen /dev/nvidia1 EPERM'

a_created_container_is_fitted_out() {
  hooked "$1" oci-hook-inject "$2" --allow-environment $GPU --device-cgroup --dev-root "$ROOM/host"
  started | equal answers "$GRANTED"
  findmnt --kernel --list --noheadings --output TARGET | grep "$ROOM/bundle/rootfs/" && { echo 'left mounted'; return 1; }
  return 0
}

the_cgroup_is_left_alone_unless_told() {
  hooked createRuntime oci-hook-inject create-runtime --allow-environment $GPU
  started | equal answers "$VISIBLE"
}

mounts_are_restricted() {
  hooked createRuntime oci-hook-inject create-runtime --device $GPU=all
  reconfigured '.process.args = ["sh", "-c", "grep -E nvidia-smi /proc/self/mountinfo; echo x >>/usr/bin/nvidia-smi || echo refused; ldconfig -p"]'
  started >"$ROOM/out" 2>&1
  grep -E ' /usr/bin/nvidia-smi ro,nosuid,nodev[, ]' "$ROOM/out"
  holds refused <"$ROOM/out"
  holds 'libcuda.so.1 (libc6,x86-64)' <"$ROOM/out"
}

# Each mount is an open descriptor until it is attached.
many_mounts() {
  mkdir -p "$ROOM/cdi"
  jq -n '{cdiVersion: "0.5.0", kind: "example.com/many", devices: [{name: "all", containerEdits: {mounts: [range(200) |
    {hostPath: "/etc/hostname", containerPath: "/many/\(.)", options: ["ro", "bind"]}]}}]}' >"$ROOM/cdi/many.json"
  hooked createRuntime oci-hook-inject create-runtime --device example.com/many=all --spec-dir "$ROOM/cdi"
  reconfigured '.process.args = ["sh", "-c", "grep -c /many/ /proc/self/mountinfo"]'
  started | equal mounts 200
}

# As Docker before 29 calls it: by its name, one word, the request in the environment.
docker_gpus() {
  hooked prestart nvidia-container-runtime-hook prestart
  started | equal answers "$GRANTED"
}

# In createContainer the state's pid is not the container's: 1 is the machine's init.
the_wrong_stage_is_refused() {
  hooked createContainer oci-hook-inject prestart --allow-environment $GPU --device-cgroup
  refused_saying "is no container's"
}

# reconfigured JQ: the bundle's config changed once more.
reconfigured() {
  jq "$1" "$ROOM/bundle/config.json" >"$ROOM/config"
  cp "$ROOM/config" "$ROOM/bundle/config.json"
}

a_user_namespace_is_refused() {
  hooked createRuntime oci-hook-inject create-runtime --allow-environment $GPU
  # The machine's own network is not the namespace's, so its sysfs cannot be mounted in it.
  reconfigured '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] |
    .linux.gidMappings = .linux.uidMappings | .mounts |= map(select(.destination | startswith("/sys") | not))'
  refused_saying 'has a user namespace'
  reconfigured 'del(.hooks)'
  reconfigured '.process.args = ["true"]'
  started
}

a_read_only_root_is_fitted_out() {
  hooked createRuntime oci-hook-inject create-runtime --allow-environment $GPU --device-cgroup
  reconfigured '.root.readonly = true'
  started | equal answers "$GRANTED"
}

a_root_that_leads_out_stays_inside() {
  local outside=$ROOM/outside
  rm -rf "$outside" && mkdir "$outside"
  hooked createRuntime oci-hook-inject create-runtime --allow-environment $GPU
  rm -rf "$ROOM/bundle/rootfs/usr/lib/firmware" "$ROOM/bundle/rootfs/usr/share/nvidia"
  ln -s "$outside" "$ROOM/bundle/rootfs/usr/lib/firmware"
  ln -s "../../../../../../../..$outside" "$ROOM/bundle/rootfs/usr/share/nvidia"
  started || true
  find "$outside" -mindepth 1 | equal "$outside" ''
}

stage_checks() {
  check "$RUNTIME: prestart: nodes, mounts, cgroup, links" a_created_container_is_fitted_out prestart prestart
  check "$RUNTIME: createRuntime: the same" a_created_container_is_fitted_out createRuntime create-runtime
  check "$RUNTIME: createRuntime: the cgroup is left alone unless told" the_cgroup_is_left_alone_unless_told
  check "$RUNTIME: createRuntime: mounts are read-only, the loader knows the driver" mounts_are_restricted
  check "$RUNTIME: createRuntime: a spec of 200 mounts" many_mounts
  check "$RUNTIME: prestart as Docker calls it for --gpus" docker_gpus
  check "$RUNTIME: createContainer is the wrong stage" the_wrong_stage_is_refused
  check "$RUNTIME: createRuntime: a read-only root" a_read_only_root_is_fitted_out
  check "$RUNTIME: a user namespace is refused" a_user_namespace_is_refused
  check "$RUNTIME: links in the root that lead out of it" a_root_that_leads_out_stays_inside
}

# ---- the capabilities of a real driver's files --------------------------------------------------------------------

# What the vendor's table tells of a file by its name is what the inventory found it to serve.
capabilities_agree() {
  local capability
  of_the_host inventory --json >"$ROOM/inventory"
  for capability in compute utility video graphics display ngx; do
    jq -n --arg want "NVIDIA_DRIVER_CAPABILITIES=$capability,compat32" '{process: {env: ["NVIDIA_VISIBLE_DEVICES=all", $want]}}' |
      "$(built oci-hook-inject)" precreate --allow-environment $GPU | jq -r '.mounts[]?.source' | sort -u >"$ROOM/found"
    jq -r --arg want $capability --arg root "$CACHE/driver-$DRIVER/installed" '(.libraries + .files)[] |
      select(.host_tool | not) | select(.capabilities | index($want)) | $root + .path' "$ROOM/inventory" | sort -u >"$ROOM/expected"
    [ -s "$ROOM/expected" ]
    diff -u --label "$capability, inventory" --label "$capability, injected" "$ROOM/expected" "$ROOM/found"
  done
}

all_checks() {
  local reason
  reason=$(why_not)
  [ -z "$reason" ] || {
    skip "hooks.d, driver $DRIVER" "$reason"
    return
  }
  prepare
  podman_room
  debian_image
  check "driver $DRIVER: capabilities by name are those of the inventory" capabilities_agree
  for RUNTIME in crun runc; do
    if timeout 90 podman --runtime "/usr/bin/$RUNTIME" run --rm "$IMAGE" true 2>"$ROOM/err"; then
      checks
      stage_checks
    else
      skip "hooks.d with $RUNTIME, driver $DRIVER" "a plain container does not start here: $(tail -n 1 "$ROOM/err")"
    fi
  done
}

case ${2:-} in
  inside) all_checks ;;
  *)
    prepare_cache
    if is_root; then
      in_private_mounts "$0" "$DRIVER" inside
    else
      skip "hooks.d, driver $DRIVER" 'needs root (mknod, podman with device nodes)'
    fi
    report
    ;;
esac
