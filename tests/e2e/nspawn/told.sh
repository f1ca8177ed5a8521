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

check_of() { cdi-gen nspawn check "$@" --device nvidia.com/gpu=all; }

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

no_group() {
  sed -i '/^render:/d' "$MACHINES/guest/etc/group"
  says 0 "renderD128.*no group render.*groupadd" check_of guest
}

no_cache() {
  echo 'not a cache' >"$MACHINES/guest/etc/ld.so.cache"
  says 0 'ld\.so\.cache: no loader cache of a format known here' check_of guest
  says 5 'failure: .*/etc/ld\.so\.cache: .*; run ldconfig' check_of guest --loader cache
}

no_library() {
  rm "$MACHINES/guest/usr/lib/x86_64-linux-gnu/libm.so.6"
  ldconfig -r "$MACHINES/guest"
  says 0 'libcuda\.so\.1: needs libm\.so\.6, which the machine does not have; install' check_of guest
}

# In a tree of another processor's: a program of it, as far as its head tells.
no_architecture() {
  local programs=$MACHINES/fedora/usr/bin/busybox
  layout fedora
  printf '\267' | dd of="$programs" bs=1 seek=18 conv=notrunc status=none
  find "$MACHINES/fedora/usr" -name '*.so*' -type f -exec sh -c 'for file; do printf "\267" | dd of="$file" bs=1 seek=18 conv=notrunc status=none; done' sh {} +
  printf '\267' | dd of="$MACHINES/fedora/usr/local/bin/probe" bs=1 seek=18 conv=notrunc status=none
  says 5 'failure: ' check_of fedora
}

driver_gone() {
  rename_driver 550.163.01 550.999.99
  says 5 'failure: .*libcuda\.so\.550\.163\.01.*cdi-gen generate --install' check_of guest
}

no_machine() { says 1 'nosuch' check_of nosuch; }
no_device() { says 4 'nvidia.com/gpu=7' cdi-gen nspawn check guest --device nvidia.com/gpu=7; }

# told_of NAME FUNCTION: a check after which all nodes are there again.
told_of() {
  apart "$@"
  make_nodes
  rename_driver 550.999.99 550.163.01
}

checks_told() {
  machine guest trixie
  told_of 'A26: check has no failure for a machine that works' nothing_broken
  told_of 'A26: check names a node that is not there' no_node
  told_of 'A26: status and check name a rule that is missing' no_rule
  told_of 'A26: check names a group that the machine does not have' no_group
  machine guest trixie
  told_of 'A26: check names a cache of the loader that cannot be extended' no_cache
  machine guest trixie
  told_of 'A26: check names a library that the machine does not have' no_library
  machine guest trixie
  told_of 'A26: check names another processor' no_architecture
  told_of 'A26: check names a driver that was renewed' driver_gone
  told_of 'A26: check names a C library that cannot serve' no_glibc
  if [ -d "${CACHE:?}/nspawn-bullseye" ]; then told_of 'A26: check names what a glibc is too old for' old_glibc; fi
  told_of 'A26: check names a machine that is not there' no_machine
  told_of 'A26: check names a device that is not there' no_device
}
