#!/usr/bin/env bash
# All checks of machines, inside the host that tests/e2e/nspawn.sh booted. By their numbers in docs/nspawn.md.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=/dev/null
. "$here/../../lib/report.sh"
for part in machines by_hand; do
  # shellcheck source=/dev/null
  . "$here/$part.sh"
done

machine guest trixie
checks_by_hand
