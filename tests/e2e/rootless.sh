#!/usr/bin/env bash
# Podman of an ordinary user: CDI devices, and the hook of the stage precreate. The engine is of a Debian suite, in a
# root of its own, in which there is such a user.
# Usage: tests/e2e/rootless.sh [bookworm|trixie|sid]   (root; everything else it needs it installs, or it says what is
# missing)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver host image podman suite bundle; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done

SUITE=${1:-bookworm}
DRIVER=550
GPU=nvidia.com/gpu
PLAIN=localhost/plain:1

# ---- the user ----------------------------------------------------------------------------------------------------

# somebody: the user of that name, with ids to give to a user namespace.
somebody() {
  useradd --shell /bin/sh somebody
  # An overlay, as the suite's root is, cannot hold another.
  mkdir ~somebody
  mount -t tmpfs -o mode=0700 home ~somebody
  usermod --append --groups video somebody
  echo somebody:200000:65536 | tee /etc/subuid >/etc/subgid
  mkdir -p /run/user/"$(id -u somebody)" ~somebody/.config/containers ~somebody/hooks.d
  cat >~somebody/.config/containers/containers.conf <<CONF
[containers]
netns = "host"
log_driver = "k8s-file"
$(podman_limits)
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  printf '[storage]\ndriver = "overlay"\n' >~somebody/.config/containers/storage.conf
  chown --recursive somebody: ~somebody /run/user/"$(id -u somebody)"
}

# as_somebody COMMAND…: without a capability, and with the groups and the environment of a login.
as_somebody() {
  (cd ~somebody && exec setpriv --reuid somebody --regid somebody --init-groups --inh-caps=-all --bounding-set=+all \
    env -i PATH="$PATH" HOME="$PWD" USER=somebody XDG_RUNTIME_DIR=/run/user/"$(id -u somebody)" "$@")
}

box() {
  as_somebody timeout --kill-after=10 90 podman --runtime "$(command -v "$RUNTIME")" --hooks-dir ~somebody/hooks.d run --rm \
    --timeout 60 --volume /run/programs/probe:/probe:ro "$@"
}

equal() { diff -u --label "$1, expected" --label "$1, found" <([ -z "$2" ] || printf '%s\n' "$2") -; }
holds() { grep -F -- "$1" || { echo "missing: $1"; return 1; }; }
refused() { if "$@" 2>"$ROOM/err"; then echo 'it started'; return 1; fi; }

# entry ARG…: the one entry of hooks.d.
entry() {
  cdi-gen hooks install --hooks-dir ~somebody/hooks.d --hook-path /run/programs/oci-hook-inject "$@" 2>/dev/null
}
no_entry() { rm -f ~somebody/hooks.d/*; }

# ---- the checks --------------------------------------------------------------------------------------------------

ALL=$'cuInit 100\nnvmlInit_v2 9\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'
all_gpus() { box "$@" "$PLAIN" /probe cuda nvml /dev/nvidia0 /dev/nvidia1 | equal answers "$ALL"; }

# Without this one all others could be root's.
it_is_rootless() {
  # shellcheck disable=SC2016 # the dollar is awk's
  box "$PLAIN" awk 'NR == 1 { print $2 }' /proc/self/uid_map | equal 'who is root' "$(id -u somebody)"
}

a_device() {
  all_gpus --device $GPU=all
  box --device $GPU=1 "$PLAIN" /probe /dev/nvidia0 /dev/nvidia1 | equal 'one' $'open /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO'
  all_gpus --device $GPU=all --read-only
  all_gpus --device $GPU=all --userns keep-id
}

the_loader_knows() {
  box --device $GPU=all "$PLAIN" ldconfig -p | holds 'libcuda.so.1 (libc6,x86-64)'
  box --device $GPU=all "$PLAIN" sh -c 'nvidia-smi; echo "exit $?"' | holds 'exit 9'
}

# No cgroup of the user's restricts devices, and none could be given: the node's mode is what counts.
the_nodes_mode_counts() {
  chmod 0660 /dev/nvidia1
  chgrp video /dev/nvidia1
  box --device $GPU=all "$PLAIN" /probe /dev/nvidia0 /dev/nvidia1 | equal 'without the group' $'open /dev/nvidia0 ENXIO\nopen /dev/nvidia1 EACCES'
  # runc keeps no groups.
  [ "$RUNTIME" != crun ] || box --device $GPU=all --group-add keep-groups "$PLAIN" /probe /dev/nvidia0 /dev/nvidia1 |
    equal 'with the group' $'open /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO'
}

its_mode_is_open() {
  chmod 0666 /dev/nvidia1
  chgrp root /dev/nvidia1
}

precreate() {
  entry --device $GPU=all
  all_gpus
  all_gpus --read-only
  entry --allow-environment $GPU
  all_gpus --env NVIDIA_VISIBLE_DEVICES=all
  box --env NVIDIA_VISIBLE_DEVICES=0 "$PLAIN" /probe cuda /dev/nvidia0 /dev/nvidia1 | equal 'one' $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
  refused box --env NVIDIA_VISIBLE_DEVICES=7 "$PLAIN" true
}

# A spec that only root reads is none for the user, and the container does not start without its GPU.
a_spec_that_is_roots_alone() {
  entry --device $GPU=all
  chmod 0600 /etc/cdi/*
  refused box "$PLAIN" true
  # Podman tells no more of this stage's hooks.
  holds 'exit status 81' <"$ROOM/err"
}

checks() {
  check "$WHAT: root inside is the user" it_is_rootless
  check "$WHAT: --device" a_device
  check "$WHAT: the loader's cache, nvidia-smi" the_loader_knows
  check "$WHAT: a node's mode and group count" the_nodes_mode_counts
  its_mode_is_open
  check "$WHAT: precreate" precreate
  check "$WHAT: precreate: a spec that root alone reads" a_spec_that_is_roots_alone
  chmod 0644 /etc/cdi/*
  no_entry
}

# ---- how it is run -----------------------------------------------------------------------------------------------

# delegated: on version 2 the user needs a cgroup that is his own, as systemd gives it to a session.
delegated() {
  local own=/sys/fs/cgroup/libgpuspec-rootless
  mkdir -p $own/session
  chown --recursive somebody: $own
  echo $BASHPID >$own/session/cgroup.procs
}

both_runtimes() {
  CGROUP=$1
  [ "$CGROUP" = v1 ] || { cgroup_v2; delegated; }
  for RUNTIME in crun runc; do
    WHAT="$SUITE: rootless podman $(release podman), $RUNTIME $(release "$RUNTIME"), cgroup $CGROUP"
    if box "$PLAIN" true 2>"$ROOM/err"; then
      checks
    else
      skip "$WHAT" "a plain container does not start here: $(tail -n 1 "$ROOM/err")"
    fi
  done
}

release() { "$1" --version | sed -nE '1s/.* ([0-9.]+).*/\1/p'; }

inside() {
  if [ -e /proc/driver/nvidia/version ]; then
    skip "rootless podman of $SUITE" 'a real NVIDIA driver would answer for the simulated GPUs'
    return
  fi
  mkdir "$ROOM/host"
  simulated_host "$ROOM/host" "$(cat /run/programs/driver-version)"
  private_dev
  cdi-gen generate --driver-root /run/driver --proc-root "$ROOM/host" --sys-root "$ROOM/host" \
    --hook-path /run/programs/oci-hook --install
  somebody
  check "$SUITE: an ordinary user's podman takes an image" as_somebody podman import --quiet /run/image/debian.tar "$PLAIN"
  if [ -d /sys/fs/cgroup/devices ]; then
    both_runtimes v1
  else
    skip "rootless podman of $SUITE, cgroup v1" 'this machine has cgroup version 2 alone'
  fi
  unshare --mount "$0" "$SUITE" v2
}

case ${2:-} in
  enter) enter_suite "$SUITE" "$DRIVER" "$0" "$SUITE" inside ;;
  inside) inside ;;
  v2) both_runtimes v2 ;;
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
      skip "rootless podman of $SUITE" 'needs root (a user of its own, mounts)'
    fi
    report
    ;;
esac
