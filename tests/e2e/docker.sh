#!/usr/bin/env bash
# A real Docker daemon: `docker run --gpus` through oci-hook-inject by the name that the daemon looks for, and CDI
# devices where its release knows them. The daemon is of a Debian suite, in a root and a pid namespace of its own.
# Usage: tests/e2e/docker.sh [bookworm|trixie|sid]   (root; everything else it needs it installs, or it says what is
# missing)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver host image podman suite bundle peer; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done

SUITE=${1:-bookworm}
DRIVER=550
GPU=nvidia.com/gpu
PLAIN=plain:1

# ---- the daemon --------------------------------------------------------------------------------------------------

# No network, no bridge and no packet filter: nothing of it is needed here, and the machine's stay as they are.
docker_starts() {
  mkdir -p /etc/docker "$ROOM/docker"
  echo '{"features": {"cdi": true}}' >/etc/docker/daemon.json
  dockerd --host unix:///run/docker.sock --data-root "$ROOM/docker" --exec-root /run/docker --pidfile /run/docker.pid \
    --bridge=none --iptables=false --ip6tables=false --storage-driver=overlay2 --exec-opt native.cgroupdriver=cgroupfs \
    >"$ROOM/dockerd.log" 2>&1 &
  for _ in $(seq 300); do
    ! docker version >/dev/null 2>&1 || break
    sleep 0.1
  done
  docker version || { tail -n 30 "$ROOM/dockerd.log"; return 1; }
  docker import --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' /run/image/debian.tar "$PLAIN" >/dev/null
}

box() {
  timeout --kill-after=10 90 docker run --rm --network=host --volume /run/programs/probe:/probe:ro "$@"
}

equal() { diff -u --label "$1, expected" --label "$1, found" <([ -z "$2" ] || printf '%s\n' "$2") -; }
refused() { if "$@" 2>"$ROOM/err"; then echo 'it started'; return 1; fi; }
holds() { grep -F -- "$1" || { echo "missing: $1"; return 1; }; }

ALL=$'cuInit 100\nnvmlInit_v2 9\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'

# ---- docker run --gpus, by the name that the daemon looks for -----------------------------------------------------

all_gpus() { box --gpus all "$@" "$PLAIN" /probe cuda nvml /dev/nvidia0 /dev/nvidia1 | equal answers "$ALL"; }

# The counterpart, without which the checks would prove little.
no_gpu_unless_asked() {
  box "$PLAIN" /probe /dev/nvidia0 | equal answers 'open /dev/nvidia0 ENOENT'
  box --gpus device=0 --cap-add MKNOD "$PLAIN" sh -c 'mknod /other c 195 7 && /probe /other' | equal answers 'open /other EPERM'
}

some_gpus() {
  local uuid
  uuid=$(cut -d'|' -f3 <<<"${HOST_GPUS[1]}")
  box --gpus 1 "$PLAIN" /probe cuda /dev/nvidia0 /dev/nvidia1 | equal 'a count' $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
  box --gpus device=1 "$PLAIN" /probe /dev/nvidia0 /dev/nvidia1 | equal 'an index' $'open /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO'
  box --gpus "device=$uuid" "$PLAIN" /probe /dev/nvidia0 /dev/nvidia1 | equal 'a UUID' $'open /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO'
  box --gpus '"device=0,1"' "$PLAIN" /probe /dev/nvidia0 /dev/nvidia1 | equal both $'open /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'
}

capabilities() {
  box --gpus all,capabilities=utility "$PLAIN" sh -c '/probe nvml; ldconfig -p | grep -c libcuda || true' | equal utility $'nvmlInit_v2 9\n0'
  box --gpus 'all,"capabilities=compute,utility"' "$PLAIN" /probe cuda nvml | equal both $'cuInit 100\nnvmlInit_v2 9'
}

the_loader_knows() {
  box --gpus all "$PLAIN" ldconfig -p | holds 'libcuda.so.1 (libc6,x86-64)'
  box --gpus all "$PLAIN" sh -c 'nvidia-smi; echo "exit $?"' | holds 'exit 9'
  box --gpus all "$PLAIN" sh -c 'echo x >>/usr/bin/nvidia-smi || echo refused' 2>&1 | holds refused
}

other_containers() {
  all_gpus --read-only
  all_gpus --user 1000:1000 --security-opt no-new-privileges
  all_gpus --cap-add SYS_ADMIN --ipc host --pid host
}

conditions() {
  box --gpus all --env 'NVIDIA_REQUIRE_CUDA=cuda>=12.0' "$PLAIN" /probe cuda | equal answers 'cuInit 100'
  refused box --gpus all --env 'NVIDIA_REQUIRE_CUDA=cuda>=99.0' "$PLAIN" true
  holds 'exit status 82' <"$ROOM/err"
  holds 'cuda>=99.0' <"$ROOM/err"
}

unknown_gpu() {
  refused box --gpus device=7 "$PLAIN" true
  holds 'exit status 81' <"$ROOM/err"
  holds "$GPU=7" <"$ROOM/err"
}

# again COMMAND…: what a container that runs says in a further process.
again() { docker exec gpus /probe /dev/nvidia0 /dev/nvidia1 | equal "$1" $'open /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'; }

a_long_life() {
  box --detach --name gpus --gpus all "$PLAIN" sleep 60
  again exec
  docker update --cpu-shares 512 gpus
  again 'exec after an update'
  docker restart --time 0 gpus
  again 'exec after a restart'
  docker exec gpus /probe cuda nvml | equal answers $'cuInit 100\nnvmlInit_v2 9'
  docker rm --force gpus || true
}

gpus_checks() {
  check "$WHAT: --gpus all" all_gpus
  check "$WHAT: no GPU that was not asked for" no_gpu_unless_asked
  check "$WHAT: --gpus by count, index, UUID" some_gpus
  check "$WHAT: --gpus with capabilities" capabilities
  check "$WHAT: --gpus: the loader's cache, nvidia-smi" the_loader_knows
  check "$WHAT: --gpus: read-only, another user, shared namespaces" other_containers
  check "$WHAT: --gpus: NVIDIA_REQUIRE_CUDA" conditions
  check "$WHAT: --gpus: an unknown GPU is refused with its name" unknown_gpu
  check "$WHAT: --gpus: exec, update, restart" a_long_life
}

# ---- CDI devices, since release 25 --------------------------------------------------------------------------------

cdi_all() { box --device "$GPU=all" "$@" "$PLAIN" /probe cuda nvml /dev/nvidia0 /dev/nvidia1 | equal answers "$ALL"; }

cdi_kinds() {
  cdi_all
  cdi_all --read-only
  cdi_all --user 1000:1000 --security-opt no-new-privileges
  box --device $GPU=1 "$PLAIN" /probe /dev/nvidia0 /dev/nvidia1 | equal 'an index' $'open /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO'
  box --device $GPU=all "$PLAIN" ldconfig -p | holds 'libcuda.so.1 (libc6,x86-64)'
  refused box --device $GPU=7 "$PLAIN" true
}

# Of another kind, so that both can stand there.
specs_of_the_peer_are_served() {
  local GPU=peer.example/gpu
  peer_spec /run/driver /run/programs/nvidia-cdi-hook | sed "s|^kind: .*|kind: $GPU|" >/etc/cdi/peer.yaml
  cdi_all
  box --device "$GPU=all" "$PLAIN" ldconfig -p | holds 'libcuda.so.1 (libc6,x86-64)'
}

cdi_checks() {
  if [ "${RELEASE%%.*}" -lt 25 ]; then
    skip "$WHAT: CDI devices" 'Docker knows them since 25'
    return
  fi
  check "$WHAT: --device $GPU=…" cdi_kinds
  check "$WHAT: --device: a spec of nvidia-ctk, with our hook by the name of its own" specs_of_the_peer_are_served
}

# ---- how it is run -----------------------------------------------------------------------------------------------

release() { dockerd --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1; }

# daemon v1|v2: all checks with one daemon, as the first process's child of a pid namespace, which ends it.
daemon() {
  CGROUP=$1
  [ "$CGROUP" = v1 ] || cgroup_v2
  # The hook of that name has no arguments to tell it of a simulated /proc.
  mount --bind "$ROOM/host/proc/driver" /proc/driver
  RELEASE=$(release)
  WHAT="$SUITE: docker $RELEASE, cgroup $CGROUP"
  check "$WHAT: the daemon starts" docker_starts
  docker version >/dev/null 2>&1 || return 0
  gpus_checks
  cdi_checks
}

inside() {
  local cgroup
  if [ -e /proc/driver/nvidia/version ]; then
    skip "docker of $SUITE" 'a real NVIDIA driver would answer for the simulated GPUs'
    return
  fi
  mkdir "$ROOM/host"
  simulated_host "$ROOM/host" "$(cat /run/programs/driver-version)"
  private_dev
  # The one thing that Docker asks for, and what specs of nvidia-ctk ask for.
  ln -s oci-hook-inject /run/programs/nvidia-container-runtime-hook
  ln -s oci-hook /run/programs/nvidia-cdi-hook
  cdi-gen generate --driver-root /run/driver --proc-root "$ROOM/host" --sys-root "$ROOM/host" \
    --hook-path /run/programs/oci-hook --install
  for cgroup in v1 v2; do
    if [ $cgroup = v1 ] && ! [ -d /sys/fs/cgroup/devices ]; then
      skip "docker of $SUITE, cgroup v1" 'this machine has cgroup version 2 alone'
      continue
    fi
    rm -rf "$ROOM/docker" /run/docker* /run/containerd
    unshare --mount --pid --fork --mount-proc --kill-child "$0" "$SUITE" daemon $cgroup
  done
}

case ${2:-} in
  enter) enter_suite "$SUITE" "$DRIVER" "$0" "$SUITE" inside ;;
  inside) inside ;;
  daemon) daemon "$3" ;;
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
      skip "docker of $SUITE" 'needs root (a daemon, mounts, containers)'
    fi
    report
    ;;
esac
