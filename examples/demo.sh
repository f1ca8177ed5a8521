#!/usr/bin/env bash
# The main job, on a machine that has nothing yet: a container that podman started with `--device nvidia.com/gpu=all`,
# in which the host's real NVIDIA driver loads. Uses this machine's own GPUs; where there are none, two simulated ones
# with a real driver from Debian's packages. Nothing of the machine's own containers or CDI specs is touched.
# Usage: examples/demo.sh [550|535]   (as root; the driver is only for machines without a GPU)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common apt rust driver host image podman; do
  # shellcheck source=/dev/null
  . "$here/../tests/lib/$part.sh"
done
DRIVER=${1:-550}

has_gpu() { [ -e /proc/driver/nvidia/version ] && [ -c /dev/nvidiactl ]; }

# The cdi-gen arguments that say where the host is: none for this machine itself.
find_host() {
  HOST=()
  if has_gpu; then
    say "this machine's own GPUs"
    return
  fi
  driver_installed "$DRIVER"
  simulated_root "$ROOM/host" "$DRIVER"
  HOST=(--root "$ROOM/host")
  say "no GPU here: two simulated ones, with the real driver $(driver_version "$DRIVER") from Debian's packages"
}

show() {
  printf '\n$ %s\n' "$1"
  eval "$1"
}

demonstrate() {
  find_host
  podman_room
  debian_image
  podman tag "$IMAGE" localhost/debian
  gcc -O2 -o "$ROOM/probe" "$here/../tests/e2e/probe.c" -ldl
  PATH=$(dirname "$(built cdi-gen)"):$PATH

  show "cdi-gen generate --install ${HOST[*]}"
  show 'cdi-gen list'
  show 'podman run --rm --device nvidia.com/gpu=all debian sh -c "ls /dev/nvidia*; ldconfig -p | grep libcuda"'
  show "podman run --rm --device nvidia.com/gpu=all --volume $ROOM/probe:/probe debian /probe cuda nvml /dev/nvidia0"
  show 'podman run --rm --device nvidia.com/gpu=all debian nvidia-smi || true'
  printf '\n'
  if has_gpu; then
    say 'done: the driver of this machine, and its GPUs, in a container'
  else
    say 'done: the real driver answered inside the container: 100 and 9 are its "no GPU" and "no kernel module",'
    say 'ENXIO says that the container may open the GPU (it would be EPERM otherwise); only the hardware is missing'
  fi
}

case ${2:-} in
  inside) demonstrate ;;
  *)
    is_root || die 'needs root, to start containers with device nodes'
    prepare_cache
    need_rust
    need podman=podman crun=crun mmdebstrap=mmdebstrap
    say 'building the programs (a few minutes the first time)'
    build_programs
    in_private_mounts "$0" "$DRIVER" inside
    ;;
esac
