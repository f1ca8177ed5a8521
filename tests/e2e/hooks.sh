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
  # Podman tells no more than that, so why is told elsewhere.
  holds 'exit status 81' <"$ROOM/err"
  told | tail -n 1 | holds "$GPU=7"
}

# told: what our programs told the journal, or where there is none their log.
told() {
  if [ -S /run/systemd/journal/socket ]; then
    journalctl --sync
    journalctl --identifier oci-hook-inject --output cat --lines 9
  else
    cat /run/gpuspec/hook.log
  fi
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
  local preload=()
  [ "$RUNTIME" != crun ] || [ -z "${MEMLOCK:-}" ] || preload=(env LD_PRELOAD="$MEMLOCK")
  timeout --kill-after=10 60 "${preload[@]}" "/usr/bin/$RUNTIME" run --bundle "$ROOM/bundle" libgpuspec-hooks
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

# reconfigured [OPTION…] JQ: the bundle's config changed once more.
reconfigured() {
  jq "$@" "$ROOM/bundle/config.json" >"$ROOM/config"
  cp "$ROOM/config" "$ROOM/bundle/config.json"
}

a_read_only_root_is_fitted_out() {
  hooked createRuntime oci-hook-inject create-runtime --allow-environment $GPU --device-cgroup
  reconfigured '.root.readonly = true'
  started | equal answers "$GRANTED"
}

# L03 of the catalogue of attacks: the mounts are the container's own, and go with it.
what_fails_midway_leaves_nothing_mounted() {
  mkdir -p "$ROOM/cdi"
  jq -n '{cdiVersion: "0.5.0", kind: "example.com/midway", devices: [{name: "all", containerEdits: {mounts: [
    {hostPath: "/etc/hostname", containerPath: "/first"}, {hostPath: "/etc/hostname", containerPath: "/usr"},
    {hostPath: "/etc/hostname", containerPath: "/third"}]}}]}' >"$ROOM/cdi/midway.json"
  hooked createRuntime oci-hook-inject create-runtime --device example.com/midway=all --spec-dir "$ROOM/cdi"
  refused_saying 'cannot be mounted on a directory'
  findmnt --kernel --list --noheadings --output TARGET | grep "$ROOM/bundle/rootfs/" && { echo 'left mounted'; return 1; }
  # What was made to mount at is an empty file, as runtimes leave it.
  [ -f "$ROOM/over/up/first" ] && [ ! -s "$ROOM/over/up/first" ] && [ ! -e "$ROOM/over/up/third" ]
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
  check "$RUNTIME: createRuntime: what fails midway leaves nothing mounted" what_fails_midway_leaves_nothing_mounted
  check "$RUNTIME: links in the root that lead out of it" a_root_that_leads_out_stays_inside
}

# ---- cgroup version 2 ---------------------------------------------------------------------------------------------

# in_version_2 COMMAND…: where nothing else is mounted at /sys/fs/cgroup, as on hosts of today.
in_version_2() {
  unshare --mount bash -euc '! mountpoint -q /sys/fs/cgroup || umount --recursive /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
    exec "$@"' in_version_2 "$@"
}

PARENT=/sys/fs/cgroup/libgpuspec-tests
CGROUP=$PARENT/one

# in_cgroup: the hooked container in a cgroup of this name, asking for devices of the runtime and of others too.
in_cgroup() {
  hooked createRuntime oci-hook-inject create-runtime --allow-environment $GPU --device-cgroup
  mknod -m 0666 "$ROOM/bundle/rootfs/other" c 195 7
  reconfigured '.linux.cgroupsPath = "/libgpuspec-tests/one" | .process.args += ["/dev/null", "/dev/zero", "/other"]'
}
IN_CGROUP=$GRANTED$'\nopen /dev/null ok\nopen /dev/zero ok\nopen /other EPERM'

# before WORDS, after WORDS: a hook of the shell, ahead of ours or behind it.
# shellcheck disable=SC2016 # jq's
before() { reconfigured --argjson hook "$(shell_hook "$1")" '.hooks.createRuntime |= [$hook] + .'; }
# shellcheck disable=SC2016 # jq's
after() { reconfigured --argjson hook "$(shell_hook "$1")" '.hooks.createRuntime += [$hook]'; }
shell_hook() { jq -n --arg words "$1" '{path: "/bin/sh", args: ["sh", "-c", $words]}'; }

the_runtimes_rules_stay() {
  in_cgroup
  started | equal answers "$IN_CGROUP"
}

# O5 of the catalogue of attacks: the cgroups around the container's have the programs that they had.
no_other_cgroup_is_changed() {
  local show="$ROOM/programs show /sys/fs/cgroup $PARENT $PARENT/two"
  mkdir -p "$PARENT/two"
  "$ROOM/programs" alone allow "$PARENT/two"
  in_cgroup
  before "$show >$ROOM/before; $ROOM/programs show $CGROUP >$ROOM/own"
  after "$show >$ROOM/after; $ROOM/programs show $CGROUP >$ROOM/own-after"
  started | equal answers "$IN_CGROUP"
  diff -u "$ROOM/before" "$ROOM/after"
  # That the container's own is another one says that the comparison sees changes.
  grep -E "^$PARENT/two: [0-9]+$" "$ROOM/after"
  if cmp "$ROOM/own" "$ROOM/own-after"; then echo "nothing was changed"; return 1; fi
  rmdir "$PARENT/two"
}

# As a manager of services has its own beside the runtime's: each must allow.
two_programs_are_widened() {
  in_cgroup
  before "$ROOM/programs add few $CGROUP"
  started | equal answers "$IN_CGROUP"
}

a_program_that_stands_alone_is_widened() {
  in_cgroup
  before "$ROOM/programs alone few $CGROUP"
  started | equal answers "$IN_CGROUP"
}

# refused_with STATUS WORD: the container does not start, and our hook says why by both.
refused_with() {
  # crun tells no status, and runc of old no more than that there was one.
  refused_saying "$2"
  [ "$RUNTIME" != runc ] || holds "exit status $1" <"$ROOM/all"
}

what_cannot_be_widened_is_refused() {
  in_cgroup
  before "$ROOM/programs alone calling $CGROUP"
  refused_with 86 'it calls functions of the kernel: leave --device-cgroup out, or use CDI or precreate'
}

a_shared_cgroup_is_refused() {
  sleep 60 >/dev/null 2>&1 &
  # shellcheck disable=SC2064 # of now
  trap "kill $! || true; wait; [ ! -d $CGROUP ] || rmdir $CGROUP" EXIT
  in_cgroup
  # A newer runc starts nothing in a cgroup with somebody in it, so he comes later.
  before "echo $! >$CGROUP/cgroup.procs"
  refused_with 86 'is not alone in it'
}

a_cgroup_restricted_from_outside_is_refused() {
  mkdir -p "$PARENT"
  in_cgroup
  before "$ROOM/programs add few $PARENT; $ROOM/programs alone none $CGROUP"
  refused_with 86 'outer cgroups restrict it'
  rmdir "$PARENT"
}

version_2_checks() {
  check "$RUNTIME, cgroup version 2: prestart: nodes, mounts, cgroup, links" a_created_container_is_fitted_out prestart prestart
  check "$RUNTIME, cgroup version 2: createRuntime: the cgroup is left alone unless told" the_cgroup_is_left_alone_unless_told
  check "$RUNTIME, cgroup version 2: prestart as Docker calls it for --gpus" docker_gpus
  check "$RUNTIME, cgroup version 2: createRuntime: a read-only root" a_read_only_root_is_fitted_out
  check "$RUNTIME, cgroup version 2: the runtime's rules stay" the_runtimes_rules_stay
  check "$RUNTIME, cgroup version 2: no other cgroup is changed" no_other_cgroup_is_changed
  check "$RUNTIME, cgroup version 2: each of two programs is widened" two_programs_are_widened
  check "$RUNTIME, cgroup version 2: a program that stands alone is widened" a_program_that_stands_alone_is_widened
  check "$RUNTIME, cgroup version 2: what cannot be widened is refused" what_cannot_be_widened_is_refused
  check "$RUNTIME, cgroup version 2: a cgroup with others in it is refused" a_shared_cgroup_is_refused
  check "$RUNTIME, cgroup version 2: rules of outer cgroups alone are refused" a_cgroup_restricted_from_outside_is_refused
}

version_2() {
  # What an interrupted run left.
  ! [ -d "$PARENT" ] || find "$PARENT" -depth -type d -exec rmdir {} +
  gcc -O2 -o "$ROOM/programs" "$here/programs.c"
  [ -z "$(podman_limits)" ] || {
    gcc -O2 -shared -fPIC -o "$ROOM/memlock.so" "$here/memlock.c"
    MEMLOCK=$ROOM/memlock.so
  }
  for RUNTIME in crun runc; do
    bundle 'del(.hooks) | .process.args = ["true"]'
    if started 2>"$ROOM/err"; then
      version_2_checks
    else
      skip "cgroup version 2 with $RUNTIME" "a plain container does not start here: $(tail -n 1 "$ROOM/err")"
    fi
  done
  ! [ -d "$PARENT" ] || rmdir "$PARENT"
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
  if in_version_2 true 2>"$ROOM/err"; then
    in_version_2 "$0" "$DRIVER" version-2
  else
    skip "cgroup version 2" "it cannot be mounted here: $(tail -n 1 "$ROOM/err")"
  fi
}

case ${2:-} in
  inside) all_checks ;;
  version-2) version_2 ;;
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
