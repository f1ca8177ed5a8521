# shellcheck shell=bash
# What the host must be able to show before any program of ours: that a device is denied when only its node is there, and
# that the way we go, gone by hand, leads to the driver. Were this blind, all other checks would be.

BY_HAND=/run/gpuspec/nspawn/guest
DROP_IN=/run/systemd/system/systemd-nspawn@guest.service.d
SETTINGS=/run/systemd/nspawn/guest.nspawn

a_bind_is_not_a_permission() {
  mkdir -p /run/systemd/nspawn
  printf '[Files]\nBind=/dev/nvidia0\n' >"$SETTINGS"
  up guest
  in_machine guest probe /dev/nvidia0 | equal answers 'open /dev/nvidia0 EPERM'
  down guest
  rm "$SETTINGS"
}

by_hand() {
  local directory=/usr/lib/x86_64-linux-gnu name library
  mkdir -p "$DROP_IN" "$BY_HAND"/{tree,farm}
  mount -t tmpfs -o mode=0755,nosuid tree "$BY_HAND/tree"
  mkdir "$BY_HAND/tree/lib"
  for library in /usr/lib/x86_64-linux-gnu/nvidia/current/lib{cuda,nvidia-ptxjitcompiler}.so.*; do
    [ ! -L "$library" ] || continue
    name=${library##*/}
    : >"$BY_HAND/tree/lib/$name"
    mount --bind "$library" "$BY_HAND/tree/lib/$name"
    ln -s "$name" "$BY_HAND/tree/lib/${name%%.so.*}.so.1"
    ln -s "/run/gpuspec/lib/$name" "$BY_HAND/farm/${name%%.so.*}.so.1"
  done
  printf '%s\n' '[Files]' Bind=/dev/nvidiactl Bind=/dev/nvidia0 "BindReadOnly=$BY_HAND/tree:/run/gpuspec" \
    "OverlayReadOnly=+$directory:$BY_HAND/farm:$directory" >"$SETTINGS"
  printf '[Service]\nDeviceAllow=/dev/char/195:0 rw\nDeviceAllow=/dev/char/195:255 rw\n' >"$DROP_IN/by-hand.conf"
  up guest
  in_machine guest probe cuda whence /dev/nvidiactl /dev/nvidia0 /dev/nvidia1 | equal answers "cuInit 100
libcuda.so.1 from ${directory#/usr}/libcuda.so.1
open /dev/nvidiactl ENXIO
open /dev/nvidia0 ENXIO
open /dev/nvidia1 ENOENT"
  # -U of the unit's command line: what is shown here is shown in a user namespace.
  ! in_machine guest cat /proc/self/uid_map | grep -x ' *0 *0 *4294967295'
  down guest
}

undo_by_hand() {
  systemctl stop "$(unit guest)" || true
  umount --recursive "$BY_HAND/tree" || true
  rm -rf --one-file-system "$BY_HAND" "$SETTINGS" "$DROP_IN"
}

checks_by_hand() {
  machine guest trixie
  check 'A1: a node alone is denied by the device cgroup' a_bind_is_not_a_permission
  check 'A2, by hand: driver and devices of the host in a booted machine' by_hand
  undo_by_hand
}
