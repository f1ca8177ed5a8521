#!/usr/bin/env bash
# GPUs in machines of systemd-nspawn: a host with a real driver and two simulated GPUs boots in a container, and machines of
# other distributions boot in it.
# Usage: tests/e2e/nspawn.sh [252|257|262 [GROUP…]]   (the host's systemd, and which checks; root, everything else it needs
# it installs, or it says what is missing)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver host guests nspawn; do
  # shellcheck source=/dev/null
  . "$here/../lib/$part.sh"
done

VERSION=${1:-252}
DRIVER=550

host_suite() {
  case $1 in
    252) echo bookworm ;;
    257) echo trixie ;;
    262) echo sid ;;
    *) die "$1: hosts of systemd 252, 257 and 262" ;;
  esac
}

# why_not: why these checks cannot run on this machine, or nothing.
why_not() {
  [ ! -e /proc/driver/nvidia/version ] || { echo 'a real NVIDIA driver would answer for the simulated GPUs'; return; }
  need systemd-nspawn=systemd-container unshare=util-linux setpriv=util-linux pgrep=procps ||
    { echo 'needs systemd-nspawn'; return; }
  mknod -m 0600 "$ROOM/node" c 195 254 || { echo 'needs CAP_MKNOD'; return; }
  case $(LC_ALL=C bash -c ': <"$1"' x "$ROOM/node" 2>&1) in
    *'not permitted'*) echo "this machine's own device cgroup denies 195:254" ;;
  esac
}

# prepare [GROUP…]: what the host has beside its suite: the driver, the programs, a simulated /proc and /sys; and what
# machines are made of.
prepare() {
  need_rust
  build_programs
  driver_root "$DRIVER"
  machine_root "$(host_suite "$VERSION")"
  machine_root trixie
  layouts
  [[ " $* " != *' sid '* ]] || machine_root sid
  # An archive may have dropped it.
  (machine_root bullseye) || say 'no bullseye: its checks are skipped'
  host_root "$(host_suite "$VERSION")" "$DRIVER"
  simulated_host "$ROOM/host/sim" "$(driver_version "$DRIVER")"
  build_probe "$ROOM/host/usr/local/bin/probe"
  disk_image
  install "$(built cdi-gen)" "$ROOM/host/usr/local/bin/"
  install -D -t "$ROOM/host/usr/libexec/libgpuspec" "$(built oci-hook)" "$(built oci-hook-inject)"
}

# A machine in a file: Fedora's layout, whose init is the probe.
disk_image() {
  need mkfs.ext4=e2fsprogs
  cp -a "$CACHE/nspawn-layouts/fedora" "$ROOM/disk"
  printf '#!/bin/sh\n%s\n' '/usr/local/bin/probe cuda nvml whence /dev/nvidiactl /dev/nvidia0 /dev/nvidia1 /dev/nvidia-uvm' \
    >"$ROOM/disk/usr/sbin/init"
  chmod 0755 "$ROOM/disk/usr/sbin/init"
  ln -s usr/sbin "$ROOM/disk/sbin"
  truncate --size=64M "$ROOM/machines/disk.raw"
  mkfs.ext4 -q -d "$ROOM/disk" "$ROOM/machines/disk.raw"
}

all_checks() {
  local reason
  reason=$(why_not)
  [ -z "$reason" ] || {
    skip "nspawn, host systemd $VERSION" "$reason"
    return
  }
  prepare "$@"
  if host_start --bind-ro="$CHECKOUT" --bind-ro="$CACHE" --bind="$RESULTS"; then
    host_run --setenv=RESULTS="$RESULTS" --setenv=CACHE="$CACHE" --setenv=LOG_LINES="${LOG_LINES:-60}" bash "$here/nspawn/checks.sh" "$@"
    host_stop
  else
    skip "nspawn, host systemd $VERSION" "a host does not boot in a container here: $(tail -n 1 "$ROOM/host.log")"
  fi
}

case ${INSIDE:-} in
  yes) all_checks "${@:2}" ;;
  *)
    prepare_cache
    if is_root; then
      INSIDE=yes in_nspawn_room "$0" "$VERSION" "${@:2}"
    else
      skip "nspawn, host systemd $VERSION" 'needs root'
    fi
    report
    ;;
esac
