#!/usr/bin/env bash
# Every way in which a container gets its GPU, under every runtime: create-container, precreate, prestart and
# createRuntime; cgroup version 1 and 2; a writable root, a read-only one, a user namespace.
# Usage: tests/e2e/runtimes.sh [here|bookworm|trixie|sid]   (this machine's runc and crun, or that suite's, in a root
# of its own; root; everything else it needs it installs, or it says what is missing)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver host image podman suite bundle; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done

SUITE=${1:-here}
DRIVER=550
GPU=nvidia.com/gpu

prepare() {
  [ -e /run/programs/probe ] || {
    gcc -O2 -o "$ROOM/probe" "$here/probe.c" -ldl
    gcc -O2 -shared -fPIC -o "$ROOM/memlock.so" "$here/memlock.c"
  }
  mkdir "$ROOM/host"
  simulated_host "$ROOM/host" "$(cat /run/programs/driver-version 2>/dev/null || driver_version "$DRIVER")"
  private_dev
  cdi-gen generate --driver-root "$DRIVER_TREE" --proc-root "$ROOM/host" --sys-root "$ROOM/host" \
    --hook-path "$(command -v oci-hook)" --install
}

equal() { diff -u --label "$1, expected" --label "$1, found" <([ -z "$2" ] || printf '%s\n' "$2") -; }

# ---- one container -----------------------------------------------------------------------------------------------

# given WAY KIND: a bundle of KIND whose container is given every GPU in this way.
given() {
  local hook
  hook=$(command -v oci-hook-inject)
  bundle "$2" '.process.args = ["sh", "-c", "/probe cuda nvml /dev/nvidia0 /dev/nvidia1; ldconfig -p | grep -c libcuda.so.1 || true"]'
  case $1 in
    create-container) cdi-gen inject --in-place --config "$ROOM/bundle/config.json" $GPU=all ;;
    precreate)
      oci-hook-inject precreate --device $GPU=all <"$ROOM/bundle/config.json" >"$ROOM/config"
      cp "$ROOM/config" "$ROOM/bundle/config.json"
      ;;
    prestart) hooked prestart "$hook" prestart ;;
    createRuntime) hooked createRuntime "$hook" create-runtime ;;
  esac
}

# hooked STAGE HOOK WORD: the bundle's config has this hook, as an entry of hooks.d would put it there.
hooked() {
  # crun has hooks' words nowhere unless told where.
  # shellcheck disable=SC2016 # the dollars are jq's
  reconfigured --arg stage "$1" --arg hook "$2" --arg word "$3" --arg device $GPU=all --arg said "$ROOM/said" '
    .annotations["run.oci.hooks.stderr"] = $said | .hooks[$stage] = [{path: $hook, env: ["LC_ALL=C"], timeout: 10,
      args: [$hook, $word, "--device", $device, "--device-cgroup"]}]'
}

runtime() {
  local preload=()
  [ "$CGROUP-$RUNTIME" != v2-crun ] || [ -z "${MEMLOCK:-}" ] || preload=(env LD_PRELOAD="$MEMLOCK")
  timeout --kill-after=10 60 "${preload[@]}" "$RUNTIME" "$@"
}

# started: the container's words; the hook's, and the runtime's own, in $ROOM/said and $ROOM/err.
started() {
  : >"$ROOM/said"
  runtime run --bundle "$ROOM/bundle" "libgpuspec-$BASHPID" 2>"$ROOM/err" || {
    cat "$ROOM/said" "$ROOM/err" >&2
    return 1
  }
}

ALL=$'cuInit 100\nnvmlInit_v2 9\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'

works() { given "$1" "$2"; started | equal answers "$ALL"$'\n'"${3:-1}"; }

# ---- the table ---------------------------------------------------------------------------------------------------

matrix() {
  local way kind what
  for way in create-container precreate prestart createRuntime; do
    for kind in plain read-only userns; do
      what="$SUITE: $RUNTIME $RELEASE, cgroup $CGROUP: $way, $kind"
      case $way,$kind in
        create-container,read-only | precreate,read-only) check "$what" works "$way" "$kind" "$(writable)" ;;
        *) check "$what" works "$way" "$kind" ;;
      esac
    done
  done
}

# writable: 1 where the hook of the stage createContainer finds a read-only root not yet so: under runc, and crun 1.26.
writable() {
  if [ "$RUNTIME" = runc ] || printf '1.26\n%s\n' "$RELEASE" | sort --version-sort --check=quiet; then echo 1; else echo 0; fi
}

all_runtimes() {
  CGROUP=$1
  [ "$CGROUP" = v1 ] || cgroup_v2
  for RUNTIME in crun runc; do
    RELEASE=$("$RUNTIME" --version | sed -nE '1s/.* ([0-9.]+).*/\1/p')
    bundle plain '.process.args = ["true"]'
    if started 2>"$ROOM/all"; then
      matrix
    else
      skip "$SUITE: $RUNTIME $RELEASE, cgroup $CGROUP" "a plain container does not start here: $(tail -n 1 "$ROOM/all")"
    fi
  done
}

# why_not: why these checks cannot run on this machine, or nothing.
why_not() {
  [ ! -e /proc/driver/nvidia/version ] || { echo 'a real NVIDIA driver would answer for the simulated GPUs'; return; }
  need crun=crun runc=runc jq=jq || { echo 'needs crun, runc and jq'; return; }
  mknod -m 0600 "$ROOM/node" c 195 254 || echo 'needs CAP_MKNOD'
}

inside() {
  local reason limits
  reason=$(why_not)
  [ -z "$reason" ] || {
    skip "runtimes, $SUITE" "$reason"
    return
  }
  if [ -d /run/programs ]; then
    export DRIVER_TREE=/run/driver IMAGE_TAR=/run/image/debian.tar PROBE=/run/programs/probe MEMLOCK=/run/programs/memlock.so
  else
    export DRIVER_TREE=$CACHE/driver-$DRIVER/installed IMAGE_TAR=$CACHE/image/debian.tar PROBE=$ROOM/probe MEMLOCK=$ROOM/memlock.so
  fi
  limits=$(podman_limits)
  prepare
  [ -n "$limits" ] || unset MEMLOCK
  if [ -d /sys/fs/cgroup/devices ]; then
    all_runtimes v1
  else
    skip "runtimes, $SUITE, cgroup v1" 'this machine has cgroup version 2 alone'
  fi
  unshare --mount "$0" "$SUITE" v2
}

case ${2:-} in
  enter) enter_suite "$SUITE" "$DRIVER" "$0" "$SUITE" inside ;;
  inside) inside ;;
  v2) all_runtimes v2 ;;
  *)
    prepare_cache
    if is_root; then
      need_rust
      build_programs
      driver_installed "$DRIVER"
      cached image "$IMAGE" make_debian_tar
      if [ "$SUITE" = here ]; then
        PATH=$(dirname "$(built oci-hook)"):$PATH in_private_mounts "$0" here inside
      else
        suite_root "$SUITE"
        in_private_mounts "$0" "$SUITE" enter
      fi
    else
      skip "runtimes, $SUITE" 'needs root (mounts, containers)'
    fi
    report
    ;;
esac
