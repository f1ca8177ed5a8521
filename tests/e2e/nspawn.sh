#!/usr/bin/env bash
# GPUs in machines of systemd-nspawn: a host with a real driver and two simulated GPUs boots in a container, and machines of
# other distributions boot in it.
# Usage: tests/e2e/nspawn.sh [252|257|262]   (the host's systemd; root, everything else it needs it installs, or it says
# what is missing)
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

# What the host has beside its suite: the programs, the specification's sources, and the roots that machines are made of.
prepare() {
  driver_root "$DRIVER"
  machine_root "$(host_suite "$VERSION")"
  machine_root trixie
  host_root "$(host_suite "$VERSION")" "$DRIVER"
  build_probe "$ROOM/host/usr/local/bin/probe"
  simulated_host "$ROOM/host/sim" "$(driver_version "$DRIVER")"
  host_start --bind-ro="$CHECKOUT" --bind-ro="$CACHE" --bind="$RESULTS" || return 1
  host_exec cp -a /sim/dev/. /dev/
}

all_checks() {
  local reason
  reason=$(why_not)
  [ -z "$reason" ] || {
    skip "nspawn, host systemd $VERSION" "$reason"
    return
  }
  if prepare; then
    host_run --setenv=RESULTS="$RESULTS" --setenv=CACHE="$CACHE" bash "$here/nspawn/checks.sh"
    host_stop
  else
    skip "nspawn, host systemd $VERSION" "a host does not boot in a container here: $(tail -n 1 "$ROOM/host.log")"
  fi
}

case ${2:-} in
  inside) all_checks ;;
  *)
    prepare_cache
    if is_root; then
      in_nspawn_room "$0" "$VERSION" inside
    else
      skip "nspawn, host systemd $VERSION" 'needs root'
    fi
    report
    ;;
esac
