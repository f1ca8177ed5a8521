# shellcheck shell=bash disable=SC2034 # words of the groups
# The words of the nspawn checks, inside the host: how a machine is made, started, asked and compared.

MACHINES=/var/lib/machines
HOOK=/usr/libexec/libgpuspec/oci-hook-inject
# Where the loader of a Debian finds its own libraries, and the driver where that is laid over them.
LIBDIR=/lib/x86_64-linux-gnu

unit() { printf 'systemd-nspawn@%s.service\n' "$1"; }

# ---- machines ----------------------------------------------------------------------------------------------------

# machine NAME SUITE: a machine of that suite, as it was unpacked, with the probe in it.
machine() {
  rm -rf --one-file-system "${MACHINES:?}/$1"
  cp -a "$CACHE/nspawn-$2" "$MACHINES/$1"
  install /usr/local/bin/probe "$MACHINES/$1/usr/local/bin/probe"
  # The same at each making, so that two runs can be compared.
  echo 0123456789abcdef0123456789abcdef >"$MACHINES/$1/etc/machine-id"
  rm "$MACHINES/$1/etc/hostname"
  # As udev's package adds it.
  echo render:x:991: >>"$MACHINES/$1/etc/group"
  touch --date=@1700000000 "$MACHINES/$1"/{etc/group,etc/machine-id,etc,usr/local/bin/probe,usr/local/bin}
}

# layout NAME [COMMAND]: a machine laid out as another distribution; where it boots, it runs COMMAND and ends.
layout() {
  rm -rf --one-file-system "${MACHINES:?}/$1"
  cp -a "$CACHE/nspawn-layouts/$1" "$MACHINES/$1"
  [ -z "${2:-}" ] || {
    printf '#!/bin/sh\n%s\nexit 0\n' "$2" >"$MACHINES/$1/usr/sbin/init"
    chmod 0755 "$MACHINES/$1/usr/sbin/init"
    ln -s usr/sbin "$MACHINES/$1/sbin"
  }
}

# up NAME: starts it, and waits until a service can be run in it.
up() {
  if begin "$1" && answers "$1"; then return; fi
  systemctl status --no-pager --full "$(unit "$1")"
  return 1
}

# begin NAME: starts it. Its words are read from here on (told).
begin() {
  systemctl daemon-reload
  BEGAN=$(date +%s.%6N)
  systemctl start "$(unit "$1")"
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

# once NAME: a machine that ends by itself: starts it, waits, answers what it wrote.
once() {
  begin "$1"
  ended "$1"
  told "$1"
}

ended() {
  local tries=100
  while [ $((tries--)) -gt 0 ]; do
    case $(systemctl show --value --property=ActiveState "$(unit "$1")") in
      inactive | failed) return 0 ;;
    esac
    sleep 0.1
  done
  echo "$1 does not end"
  return 1
}

# told NAME: what its unit wrote to the journal since it was begun.
told() {
  journalctl --sync
  journalctl --quiet --no-pager --output=cat --since="@$BEGAN" --unit="$(unit "$1")" | tr -d '\r'
}

# in_machine NAME COMMAND…: as a service of the machine.
in_machine() { systemd-run --machine="$1" --quiet --pipe --wait --collect "${@:2}"; }

# in_shell NAME COMMAND…: as `machinectl shell` does, which wants a terminal.
in_shell() { script --quiet --return --command "machinectl --quiet shell $*" /dev/null </dev/null | sed 's/\r$//; s/^^@//; s/\x1b][^\x1b\a]*\(\x1b\\\|\a\)//g'; }

# leader NAME: its first process, as the host sees it.
leader() { machinectl show --value --property=Leader "$1"; }

# Whatever a check left: machines stopped, nothing enabled, no settings.
calm() {
  systemctl stop 'systemd-nspawn@*.service'
  rm -rf /etc/systemd/nspawn /etc/systemd/system/systemd-nspawn@*.service.d /run/systemd/system/systemd-nspawn@*.service.d "$MACHINES"/*.nspawn
  systemctl daemon-reload
  systemctl reset-failed
}

# apart NAME COMMAND…: a check that neither needs what the one before left, nor leaves anything to the next.
apart() {
  check "$@"
  calm
}

# ---- what is compared --------------------------------------------------------------------------------------------

# manifest DIR: every path in it with type, mode, owner, size, time, link text, and the hash of its bytes.
manifest() {
  (
    cd "$1" || exit
    find . -xdev -printf '%P|%y %#m %U:%G %s %T@ %l\n'
    find . -xdev -type f -exec sha256sum {} + | sed 's/^\(\S*\)  \.\/\(.*\)$/\2|\1/'
  ) | LC_ALL=C sort
}

# untouched NAME: its tree is what it was when `manifest` was kept in /run/before.NAME.
remember() { manifest "$MACHINES/$1" >"/run/before.$1"; }
untouched() { manifest "$MACHINES/$1" | diff -u --label before --label now "/run/before.$1" -; }

# nothing_left NAME: no mount that the host did not have, no state or settings of ours.
nothing_left() {
  local left
  left=$(
    new_mounts
    find "/run/gpuspec/nspawn/$1" "/run/gpuspec/failed/$1" "/run/systemd/nspawn/$1.nspawn" /run/systemd/system/systemd-nspawn@"$1".service.d 2>/dev/null || true
    grep -ls gpuspec "/etc/systemd/nspawn/$1.nspawn" || true
  )
  [ -z "$left" ] || { printf 'left:\n%s\n' "$left"; return 1; }
}

# Of all mounts of the host, whatever made them; systemd-nspawn and systemd have theirs for what runs.
mounts() { awk '$5 !~ "^/(run/(systemd/nspawn|credentials|user)|proc/sys/fs/binfmt_misc)(/|$)" { print $4, $5 }' /proc/self/mountinfo | LC_ALL=C sort; }
remember_mounts() { mounts >/run/mounts; }
new_mounts() { mounts | LC_ALL=C comm -13 /run/mounts -; }
our_mounts() { grep -E ' (/[^ ]*)?/gpuspec[/ ]| /dev/nvidia| /run/gpuspec' /proc/self/mountinfo || true; }

# equal WHAT EXPECTED: what stands on stdin is EXPECTED, to the letter.
equal() { diff -u --label "$1, expected" --label "$1, found" <([ -z "$2" ] || printf '%s\n' "$2") -; }
holds() { grep -F -- "$1" || { echo "missing: $1"; return 1; }; }
lacks() { ! grep -F -- "$1" || { echo "there is: $1"; return 1; }; }
refused() { if "$@"; then echo "it went well: $*"; return 1; fi; }

# withstands NAME: its root is the host's, does what mounting lets it do, and cannot change the driver for all that.
withstands() {
  of_driver >/run/driver
  # shellcheck disable=SC2016 # expanded there
  in_machine "$1" bash -c '
    no() { if "$@" 2>/dev/null; then echo "it could: $*"; exit 1; fi; }
    cd /run/gpuspec/lib
    file=$PWD/libcuda.so.1
    [ -s "$file" ]
    mount -o remount,bind,rw /run/gpuspec
    mount -o remount,bind,rw "$file"
    no mount -o remount,rw "$file"
    no sh -c "echo x >>$file"
    no sh -c "echo x >>/proc/self/fd/3" 3<"$file"
    no sh -c "echo x 1<>/proc/self/fd/3" 3<"$file"
    no truncate --size=0 "$file"
    no chmod 4777 "$file"
    no chown 1:1 "$file"
    no touch --date=@0 "$file"
    no ln "$file" /run/gpuspec/lib/linked
    no mv "$file" /run/gpuspec/lib/moved
    no rm "$file"
    : >/tmp/again
    mount --bind "$file" /tmp/again
    mount -o remount,bind,rw /tmp/again
    no sh -c "echo x >>/tmp/again"
    umount /tmp/again
    mount --make-shared "$file"
    # No other file of it is to be had either.
    findmnt --noheadings --output=FSTYPE --list "$file" | grep -x overlay'
  of_driver | diff -u /run/driver -
}
of_driver() {
  find /usr/lib/x86_64-linux-gnu/ -name 'lib*.so.550.*' -exec stat --format='%n %i %a %u:%g %s %h %Y %Z' {} + -exec sha256sum {} + | sort
}

# ---- our programs ------------------------------------------------------------------------------------------------

# make_nodes: the host's, those that are not there, as udev would have them.
make_nodes() {
  cp -an /sim/dev/. /dev/
  chgrp render /dev/dri/render*
  chgrp video /dev/dri/card*
}

# spec: the host's specification, as it is now.
spec() {
  cdi-gen generate --install --proc-root /sim --sys-root /sim --hook-path /usr/libexec/libgpuspec/oci-hook
}

enable() { cdi-gen nspawn enable "$@"; }
disable() { cdi-gen nspawn disable "$@"; }

# ALL_NODES: what the probe says of two GPUs that may be opened.
ALL_NODES='open /dev/nvidiactl ENXIO
open /dev/nvidia0 ENXIO
open /dev/nvidia1 ENXIO
open /dev/nvidia-uvm ENXIO'
NO_NODES=${ALL_NODES//ENXIO/ENOENT}
NODES=(/dev/nvidiactl /dev/nvidia0 /dev/nvidia1 /dev/nvidia-uvm)
