# shellcheck shell=bash
# The words of the nspawn checks, inside the host: how a machine is made, started, asked and compared.

MACHINES=/var/lib/machines

unit() { printf 'systemd-nspawn@%s.service\n' "$1"; }

# machine NAME SUITE: a machine of that suite, as it was unpacked, with the probe in it.
machine() {
  rm -rf --one-file-system "${MACHINES:?}/$1"
  cp -a "$CACHE/nspawn-$2" "$MACHINES/$1"
  cp /usr/local/bin/probe "$MACHINES/$1/usr/local/bin/probe"
}

# up NAME: starts it, and waits until a service can be run in it.
up() {
  systemctl daemon-reload
  systemctl start "$(unit "$1")"
  answers "$1" || { systemctl status --no-pager --full "$(unit "$1")"; return 1; }
}

answers() {
  local tries=100
  while [ $((tries--)) -gt 0 ]; do
    ! in_machine "$1" true 2>/dev/null || return 0
    sleep 0.1
  done
  echo "$1 answers nothing after 10 s"
  return 1
}

down() {
  systemctl stop "$(unit "$1")"
  [ "$(systemctl show --value --property=Result "$(unit "$1")")" = success ] ||
    { systemctl status --no-pager --full "$(unit "$1")"; return 1; }
}

# in_machine NAME COMMAND…: as a service of the machine.
in_machine() { systemd-run --machine="$1" --quiet --pipe --wait --collect "${@:2}"; }

# equal WHAT EXPECTED: what stands on stdin is EXPECTED, to the letter.
equal() { diff -u --label "$1, expected" --label "$1, found" <([ -z "$2" ] || printf '%s\n' "$2") -; }
holds() { grep -F -- "$1" || { echo "missing: $1"; return 1; }; }
