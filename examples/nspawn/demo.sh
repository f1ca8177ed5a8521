#!/usr/bin/env bash
# A GPU in a machine of systemd-nspawn that runs another release than its host: enabled, started, asked, stopped, disabled,
# and one command in its root without booting it. On a machine with a GPU and systemd that is this machine itself, and a
# machine "gpu-demo" that is removed at the end; elsewhere a host that boots in a container, with two simulated GPUs and a
# real driver out of Debian's packages, of which nothing is left.
# Usage: examples/nspawn/demo.sh   (as root)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common apt rust driver host guests nspawn; do
  # shellcheck source=/dev/null
  . "$here/../../tests/lib/$part.sh"
done
MACHINE=gpu-demo
# A spec of its own: the machine's own ones are neither read nor written.
SPECS=/run/gpu-demo
GPU="nvidia.com/gpu=all --spec-dir $SPECS"

has_gpu() { [ -e /proc/driver/nvidia/version ] && [ -c /dev/nvidiactl ] && [ -d /run/systemd/system ]; }

show() {
  printf '\n$ %s\n' "$1"
  eval "$1"
}

# booted: waits until a service can be run in the machine.
booted() { for _ in $(seq 100); do systemd-run --machine=$MACHINE --quiet --wait true 2>/dev/null && return; sleep 0.1; done; }

# What a user types. $1: how cdi-gen finds the host's GPUs; nothing on a real host.
demonstrate() {
  mkdir -p $SPECS
  show "cdi-gen generate --output $SPECS/nvidia.yaml ${1:-}"
  show "cdi-gen nspawn enable $MACHINE --device $GPU"
  show "machinectl start $MACHINE"
  booted
  show "systemd-run --machine=$MACHINE --quiet --pipe --wait probe cuda nvml /dev/nvidia0"
  show "systemd-run --machine=$MACHINE --quiet --pipe --wait sh -c 'ldconfig -p | grep libcuda'"
  show 'cdi-gen nspawn status'
  show "systemctl stop systemd-nspawn@$MACHINE"
  show "cdi-gen nspawn disable $MACHINE"
  show "cdi-gen nspawn run --device $GPU --quiet --machine=$MACHINE -- /usr/local/bin/probe cuda /dev/nvidia0 </dev/null"
  printf '\n'
}

# machine_files DIRECTORY: the machine, a Debian 13.
machine_files() {
  cp -a "$CACHE/nspawn-trixie" "$1"
  build_probe "$1/usr/local/bin/probe"
}

on_this_machine() {
  local directory=/var/lib/machines/$MACHINE
  [ ! -e "$directory" ] || die "$directory: there already"
  PATH=$(dirname "$(built cdi-gen)"):$PATH
  trap forget EXIT
  machine_files "$directory"
  demonstrate
  say 'done: the driver of this machine, and its GPUs, in a machine of another release'
}

forget() {
  systemctl stop systemd-nspawn@$MACHINE
  cdi-gen nspawn disable $MACHINE
  rm -rf --one-file-system "/var/lib/machines/$MACHINE" "$SPECS"
}

on_a_simulated_host() {
  driver_root 550
  machine_root bookworm
  host_root bookworm 550
  simulated_host "$ROOM/host/sim" "$(driver_version 550)"
  install "$(built cdi-gen)" "$ROOM/host/usr/local/bin/"
  install -D -t "$ROOM/host/usr/libexec/libgpuspec" "$(built oci-hook)" "$(built oci-hook-inject)"
  mkdir -p "$ROOM/machines"
  machine_files "$ROOM/machines/$MACHINE"
  host_start --bind-ro="$CHECKOUT" || die 'a host does not boot in a container here'
  host_exec cp -a /sim/dev/. /dev/
  say 'no GPU here: two simulated ones on a simulated host, with a real driver from Debian'
  host_run bash "$here/demo.sh" typed
  host_stop
  say 'done: the real driver answered inside the machine: 100 and 9 are its "no GPU" and "no kernel module", ENXIO says'
  say 'that the machine may open the GPU (it would be EPERM otherwise); only the hardware is missing'
}

case ${1:-} in
  typed) demonstrate '--proc-root /sim --sys-root /sim' ;;
  simulated) on_a_simulated_host ;;
  *)
    is_root || die 'needs root, to boot machines'
    prepare_cache
    need_rust
    need systemd-nspawn=systemd-container mmdebstrap=mmdebstrap setpriv=util-linux pgrep=procps
    say 'building the programs (a few minutes the first time)'
    build_programs
    machine_root trixie
    if has_gpu; then on_this_machine; else in_nspawn_room "$0" simulated; fi
    ;;
esac
