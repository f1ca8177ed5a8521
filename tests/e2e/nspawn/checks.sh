#!/usr/bin/env bash
# All checks of machines, inside the host that tests/e2e/nspawn.sh booted; A1 to A26 are the numbers in docs/nspawn.md.
# Usage: checks.sh [GROUP…]   (none: all of them but sid; one with a slash is a script of your own, below the checkout)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=/dev/null
. "$here/../../lib/report.sh"
GROUPS_OF_CHECKS=(by_hand booted settings layouts ad_hoc bundles told attached faults)
for part in machines "${GROUPS_OF_CHECKS[@]}" sid; do
  # shellcheck source=/dev/null
  . "$here/$part.sh"
done

# What the kernel would say if the driver were loaded, as far as others than cdi-gen ask: systemd reads /proc/devices for
# rules by a driver's name.
simulate_kernel() {
  grep -q ^render: /etc/group || echo render:x:105: >>/etc/group
  make_nodes
  sed -E '/^(195|226|511) /d; /^Character/r /dev/stdin' /proc/devices >/run/devices < <(grep -E '^(195|226|511) ' /sim/proc/devices)
  mount --bind /run/devices /proc/devices
}

no_new_mounts() { new_mounts | equal mounts ''; }

simulate_kernel
remember_mounts
check 'the host has a specification' spec
[ $# -gt 0 ] || set -- "${GROUPS_OF_CHECKS[@]}"
for group in "$@"; do
  if [[ $group == */* ]]; then
    # shellcheck source=/dev/null
    . "$group"
  else
    "checks_$group"
  fi
  calm
  check "$group: nothing is left mounted on the host" no_new_mounts
done
