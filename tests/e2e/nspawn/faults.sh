# shellcheck shell=bash
# What goes wrong: the machine starts without a GPU and says so, or, where it is required, does not start and says so.

# starts_without WHY: guest, enabled as it is, comes up without a device and says a line with WHY.
starts_without() {
  up guest
  in_machine guest probe "${NODES[@]}" | equal answers "$NO_NODES"
  refused in_machine guest probe cuda
  told guest >/run/told
  grep -E "oci-hook-inject.*$1" /run/told || { cat /run/told; return 1; }
  systemctl --no-pager --full --lines=200 status "$(unit guest)" | grep -E "oci-hook-inject.*$1" >/dev/null
  machinectl --no-pager --full --lines=200 status guest | grep -E "guest runs without its devices: .*$1" >/dev/null
  down guest
  nothing_left guest
}

# does_not_start WHY: guest, enabled with --required.
does_not_start() {
  if begin guest; then echo 'it started'; return 1; fi
  told guest | grep -E "oci-hook-inject.*$1" >/run/told || { told guest; return 1; }
  wc -l </run/told | equal 'lines that say why' 1
  systemctl reset-failed "$(unit guest)"
  nothing_left guest
}

spec_vanished() {
  enable guest --device nvidia.com/gpu=all
  mv /etc/cdi /etc/cdi.away
  starts_without "nvidia.com/gpu=all"
  mv /etc/cdi.away /etc/cdi
  enable guest --device nvidia.com/gpu=all --required
  mv /etc/cdi /etc/cdi.away
  does_not_start "nvidia.com/gpu=all"
  mv /etc/cdi.away /etc/cdi
}

# The files have other names now, the specification has the old ones. A new one is enough: nothing is enabled anew.
driver_renewed() {
  local new=550.999.99 why='550\.163\.01'
  enable guest --device nvidia.com/gpu=all
  rename_driver 550.163.01 $new
  starts_without $why
  enable guest --device nvidia.com/gpu=all --required
  does_not_start $why
  spec
  up guest
  in_machine guest ls /run/gpuspec/lib | holds "libcuda.so.$new"
  in_machine guest probe cuda /dev/nvidia0 | equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO'
  told guest | lacks 'Failed to stat'
  down guest
  nothing_left guest
}

# rename_driver FROM TO: as an upgrade does it, new files with new names; links follow.
rename_driver() {
  local file
  find /usr/lib -name "*.so.$1" | while read -r file; do
    mv "$file" "${file%"$1"}$2"
  done
  find /usr/lib -lname "*.so.$1" | while read -r file; do
    ln -sf "$(readlink "$file" | sed "s/$1\$/$2/")" "$file"
  done
  ldconfig
  sed -i "s/$1/$2/" /sim/proc/driver/nvidia/version
}

# No room where the machine's state is kept: not even for a name.
state_is_full() {
  enable guest --device nvidia.com/gpu=all
  mkdir -p /run/gpuspec
  mount -t tmpfs -o mode=0755,nr_inodes=1 full /run/gpuspec
  up guest
  in_machine guest probe "${NODES[@]}" | equal answers "$NO_NODES"
  told guest | grep 'oci-hook-inject: .*No space left' || { told guest; return 1; }
  down guest
  enable guest --device nvidia.com/gpu=all --required
  if begin guest; then echo 'it started'; return 1; fi
  told guest | grep 'oci-hook-inject: .*No space left' || { told guest; return 1; }
  our_mounts | sed '/ \/run\/gpuspec rw/d' | equal mounts ''
}

# No room in the machine itself: its loader's cache cannot be written.
machine_is_full() {
  mount -t tmpfs -o mode=0755,size=300m full "$MACHINES/guest"
  cp -a "$CACHE/nspawn-trixie/." "$MACHINES/guest"
  head -c 400m /dev/zero >"$MACHINES/guest/filler" 2>/dev/null || true
  remember guest
  enable guest --device nvidia.com/gpu=all
  "$HOOK" nspawn-prepare --machine=guest --device=nvidia.com/gpu=all >/run/told 2>&1 || true
  cat /run/told
  grep -iE 'no space' /run/told
  "$HOOK" nspawn-cleanup --machine=guest
  untouched guest
  nothing_left guest
}

# Killed at one moment after another of its work: whatever it had done is undone by the clean-up, or by the next start.
killed_midway() {
  local delay
  layout fedora
  remember fedora
  for delay in $(seq 1 25) 30 40 60; do
    timeout --signal=KILL "0.$(printf '%03d' "$delay")" "$HOOK" nspawn-prepare --machine=fedora --device=nvidia.com/gpu=all >/dev/null 2>&1 || true
    "$HOOK" nspawn-cleanup --machine=fedora
    untouched fedora || { echo "killed after $delay ms"; return 1; }
    nothing_left fedora || { echo "killed after $delay ms"; return 1; }
  done
}

killed_midway_in_the_unit() {
  local delay
  enable guest --device nvidia.com/gpu=all
  for delay in 002 007; do
    printf '[Service]\nExecStartPre=\nExecStartPre=-/usr/bin/timeout --signal=KILL 0.%s %s nspawn-prepare --machine=guest --device=nvidia.com/gpu=all\n' \
      $delay "$HOOK" >"/etc/systemd/system/$(unit guest).d/60-killed.conf"
    up guest
    down guest
    nothing_left guest
  done
}

two_at_once() {
  machine second trixie
  remember guest
  remember second
  enable guest --device nvidia.com/gpu=0
  enable second --device nvidia.com/gpu=1
  systemctl daemon-reload
  systemctl start "$(unit guest)" "$(unit second)"
  answers guest
  answers second
  in_machine guest probe cuda /dev/nvidia0 /dev/nvidia1 | equal guest $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
  in_machine second probe cuda /dev/nvidia0 /dev/nvidia1 | equal second $'cuInit 100\nopen /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO'
  down guest
  in_machine second probe cuda /dev/nvidia1 | equal second $'cuInit 100\nopen /dev/nvidia1 ENXIO'
  down second
  disable second
  nothing_left second
  nothing_left guest
  rm -rf "$MACHINES/second"
}

# A tree whose names lead to the host's own, or block whoever opens them. It starts; nothing outside it changes.
hostile() {
  local name=$1 outside=/srv/outside
  rm -rf $outside
  mkdir -p $outside/ld.so.conf.d
  echo outside | tee $outside/ld.so.cache $outside/ld.so.conf >$outside/ld.so.conf.d/x.conf
  machine guest trixie
  (cd "$MACHINES/guest" && eval "$2")
  manifest $outside >/run/outside
  manifest /etc >/run/etc
  timeout 20 "$HOOK" nspawn-prepare --machine=guest --device=nvidia.com/gpu=all || [ $? != 124 ] || { echo "$name: it hangs"; return 1; }
  manifest $outside | diff -u /run/outside - || { echo "$name: changed outside"; return 1; }
  manifest /etc | diff -u /run/etc - || { echo "$name: changed /etc of the host"; return 1; }
  "$HOOK" nspawn-cleanup --machine=guest
  manifest $outside | diff -u /run/outside -
  manifest /etc | diff -u /run/etc -
  nothing_left guest
}

hostile_trees() {
  hostile 'absolute ld.so.conf.d' 'rm -r etc/ld.so.conf.d; ln -s /srv/outside/ld.so.conf.d etc/ld.so.conf.d'
  hostile 'upwards ld.so.conf.d' 'rm -r etc/ld.so.conf.d; ln -s ../../../../srv/outside/ld.so.conf.d etc/ld.so.conf.d'
  hostile 'ld.so.cache is a link' 'ln -sf /srv/outside/ld.so.cache etc/ld.so.cache'
  hostile 'ld.so.conf is a link' 'ln -sf ../../../../../srv/outside/ld.so.conf etc/ld.so.conf'
  hostile 'etc is the host' 'mv etc etc.own; ln -s ../../../../../../../etc etc'
  hostile 'etc is outside' 'mv etc etc.own; ln -s /srv/outside etc'
  hostile 'a FIFO' 'rm etc/ld.so.cache; mkfifo etc/ld.so.cache'
  hostile 'FIFOs' 'rm -f etc/ld.so.conf etc/group etc/os-release usr/lib/os-release; mkfifo etc/ld.so.conf etc/group usr/lib/os-release'
  hostile 'a hard link of ours' 'rm etc/ld.so.cache; ln etc/ld.so.conf etc/ld.so.cache'
  hostile 'usr/lib leads out' 'mv usr/lib usr/lib.own; ln -s ../../../../../../usr/lib usr/lib'
  hostile 'a name for libc' 'rm usr/lib/x86_64-linux-gnu/libc.so.6; mkfifo usr/lib/x86_64-linux-gnu/libc.so.6'
  hostile 'the conf is a directory' 'mkdir -p etc/ld.so.conf.d/00-gpuspec.conf/x'
}

# A hostile machine that is started: it runs, with or without its GPU.
hostile_tree_starts() {
  machine guest trixie
  rm -r "$MACHINES/guest/etc/ld.so.conf.d"
  ln -s ../../../../srv/outside/ld.so.conf.d "$MACHINES/guest/etc/ld.so.conf.d"
  manifest /srv/outside >/run/outside
  enable guest --device nvidia.com/gpu=all
  up guest
  down guest
  manifest /srv/outside | diff -u /run/outside -
  nothing_left guest
}

# fault NAME COMMAND…: a check after which the host is whole again, however it went.
fault() {
  apart "$@"
  umount /run/gpuspec "$MACHINES/guest" 2>/dev/null || true
  rm -rf --one-file-system /etc/cdi.away
  rename_driver 550.999.99 550.163.01
  spec 2>/dev/null
}

checks_faults() {
  machine guest trixie
  fault 'the specification vanished' spec_vanished
  fault 'A19: the driver was renewed between stop and start' driver_renewed
  fault 'no room for the state' state_is_full
  fault 'no room in the machine' machine_is_full
  machine guest trixie
  fault 'killed midway' killed_midway
  fault 'killed midway, in the unit' killed_midway_in_the_unit
  fault 'two machines at once' two_at_once
  fault 'A20: hostile trees' hostile_trees
  fault 'A20: a machine with a hostile tree starts' hostile_tree_starts
}
