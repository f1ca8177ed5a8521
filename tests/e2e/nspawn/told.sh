# shellcheck shell=bash
# What is said before a start: by `check`, and by `status` of a machine that is enabled. Each gate is broken once.

# says STATUS WORDS COMMAND…: it exits so, and says so.
says() {
  local status=0
  "${@:3}" >/run/said 2>&1 || status=$?
  if grep -E -- "$2" /run/said && [ "$status" = "$1" ]; then return; fi
  cat /run/said
  echo "exit $status"
  return 1
}

check_of() { cdi-gen nspawn check "$1" --device nvidia.com/gpu=all; }

nothing_broken() {
  local status=0
  check_of guest >/run/said 2>&1 || status=$?
  lacks failure </run/said
  [ "$status" = 0 ]
}

no_node() {
  rm /dev/nvidia1
  says 5 'failure: /dev/nvidia1' check_of guest
}

no_rule() {
  enable guest --device nvidia.com/gpu=all
  sed -i '/^DeviceAllow=.dev.char.195:0 /d' "/etc/systemd/system/$(unit guest).d/50-gpuspec.conf"
  says 5 'nvidia0' cdi-gen nspawn status guest
  says 5 'failure: .*nvidia0' cdi-gen nspawn check guest
}

no_glibc() {
  layout musl
  says 5 'failure: .*musl.*glibc' check_of musl
}

old_glibc() {
  machine bullseye bullseye
  says 0 'libnvidia-egl-wayland.*glibc 2\.38' check_of bullseye
}

no_machine() { says 1 'nosuch' check_of nosuch; }
no_device() { says 4 'nvidia.com/gpu=7' cdi-gen nspawn check guest --device nvidia.com/gpu=7; }

# told_of NAME FUNCTION: a check after which all nodes are there again.
told_of() {
  apart "$@"
  cp -an /sim/dev/. /dev/
}

checks_told() {
  machine guest trixie
  told_of 'A26: check has no failure for a machine that works' nothing_broken
  told_of 'A26: check names a node that is not there' no_node
  told_of 'A26: status and check name a rule that is missing' no_rule
  told_of 'A26: check names a C library that cannot serve' no_glibc
  if [ -d "${CACHE:?}/nspawn-bullseye" ]; then told_of 'A26: check names what a glibc is too old for' old_glibc; fi
  told_of 'A26: check names a machine that is not there' no_machine
  told_of 'A26: check names a device that is not there' no_device
}
