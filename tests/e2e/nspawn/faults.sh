# shellcheck shell=bash
# What goes wrong: the machine starts without a GPU and says so, or, where it is required, does not start and says so.

# starts_without WHY [first|again]: guest, enabled as it is, comes up without a device and says one line with WHY as it is
# prepared, and again once it runs; or only one of both.
starts_without() {
  up guest
  in_machine guest probe "${NODES[@]}" | equal answers "$NO_NODES"
  refused in_machine guest probe cuda
  [ "${2:-first}" != first ] || says_so "$1"
  [ "${2:-again}" != again ] || says_again "guest runs without its devices: .*$1"
  down guest
  nothing_left guest
}
says_again() { machinectl --no-pager --full --lines=200 status guest | grep -E "$1"; }

# does_not_start WHY: guest, enabled with --required.
does_not_start() {
  if begin guest; then echo 'it started'; return 1; fi
  systemctl is-failed "$(unit guest)"
  says_so "$1"
  systemctl reset-failed "$(unit guest)"
  nothing_left guest
}

# says_so WORDS: one line of the unit's journal does, and its status shows it.
says_so() {
  told guest >/run/told
  sed '/runs without its devices/d' /run/told | grep -cE "$1" | equal "lines of the journal with $1" 1 || { cat /run/told; return 1; }
  systemctl --no-pager --full --lines=200 status "$(unit guest)" >/run/status || true
  grep -E "$1" /run/status || precedes_the_start "$1" || { cat /run/status; return 1; }
}

# precedes_the_start WORDS: systemd noted the start after the program had written its line, as it may where the machine is
# busy; `systemctl status` leaves such a line out.
precedes_the_start() {
  local written noted
  noted=$(systemctl show --property=InactiveExitTimestampMonotonic --value "$(unit guest)")
  written=$(journalctl --quiet --output=json --since="@$BEGAN" --unit="$(unit guest)" | grep -E "$1" |
    sed -n 's/.*"__MONOTONIC_TIMESTAMP" *: *"\([0-9]*\)".*/\1/p' | tail -n 1)
  [ -n "$written" ] && [ "$written" -lt "$noted" ]
}

# either_way WHY [first|again]: without its devices where it may, not at all where they are required.
either_way() {
  enable guest --device nvidia.com/gpu=all
  starts_without "$@"
  enable guest --device nvidia.com/gpu=all --required
  does_not_start "$1"
}

spec_vanished() {
  local why='nvidia\.com/gpu=all: '
  enable guest --device nvidia.com/gpu=all
  mv /etc/cdi /etc/cdi.away
  starts_without "$why"
  mv /etc/cdi.away /etc/cdi
  enable guest --device nvidia.com/gpu=all --required
  mv /etc/cdi /etc/cdi.away
  does_not_start "$why"
  mv /etc/cdi.away /etc/cdi
}

# The files have other names now, the specification has the old ones. A new one is enough: nothing is enabled anew.
driver_renewed() {
  local new=550.999.99 why='libcuda\.so\.550\.163\.01.*make the spec anew'
  enable guest --device nvidia.com/gpu=all
  rename_driver 550.163.01 $new
  starts_without "$why"
  enable guest --device nvidia.com/gpu=all --required
  does_not_start "$why"
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
  mkdir -p /run/gpuspec
  mount -t tmpfs -o mode=0755,nr_inodes=1 full /run/gpuspec
  remember_mounts
  either_way 'No space left' first
}

# No room in the machine itself: its loader's cache cannot be written.
machine_is_full() {
  mount -t tmpfs -o mode=0755,size=300m full "$MACHINES/guest"
  cp -a "$CACHE/nspawn-trixie/." "$MACHINES/guest"
  install /usr/local/bin/probe "$MACHINES/guest/usr/local/bin/probe"
  head -c 400m /dev/zero >"$MACHINES/guest/filler" 2>/dev/null || true
  remember guest
  remember_mounts
  refused "$HOOK" nspawn-prepare --machine=guest --device=nvidia.com/gpu=all
  # At once, without a clean-up.
  untouched guest
  new_mounts | equal mounts ''
  "$HOOK" nspawn-cleanup --machine=guest
  nothing_left guest
  # The machine's own programs have no room either, and say so.
  either_way '00-gpuspec\.conf: .*No space left'
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

# killed_at NUMBER COMMAND…: the first system call of this number is its end, as sudden as SIGKILL and at the same place
# each time.
make_killed_at() {
  cat >/usr/local/bin/killed_at <<'PERL'
#!/usr/bin/perl
my $filter = pack('SCCL' x 4, 0x20, 0, 0, 0, 0x15, 0, 1, shift, 0x06, 0, 0, 0x80000000, 0x06, 0, 0, 0x7fff0000);
syscall(157, 22, 2, pack('Sx6P', 4, $filter)) == 0 or die "no filter: $!\n";
exec @ARGV;
PERL
  chmod 0755 /usr/local/bin/killed_at
}

# killed_in_the_unit CALL ARG…: guest is enabled with ARGs, and its preparation killed at CALL at each start.
killed_in_the_unit() {
  local own=/etc/systemd/system/systemd-nspawn@guest.service.d/50-gpuspec.conf
  enable guest --device nvidia.com/gpu=all "${@:2}"
  {
    printf '[Service]\nExecStartPre=\n'
    sed -nE "s|^(ExecStartPre=[-+]*)(.* nspawn-prepare)|\1/usr/local/bin/killed_at ${1#*=} \2|; /^ExecStartPre=/p" "$own"
  } >"${own%/*}/60-killed.conf"
}

killed_midway_in_the_unit() {
  local call
  # Its state mounted first, its nodes made, the files of the machine replaced.
  for call in move_mount=429 mknodat=259 renameat=264; do
    killed_in_the_unit "$call"
    starts_without 'making it ready was cut short' again
    killed_in_the_unit "$call" --required
    does_not_start 'Control process exited, code=(killed|dumped), status=31/SYS'
    calm
  done
}

# two_at_once ARG…: both enabled with them.
two_at_once() {
  machine second trixie
  enable guest --device nvidia.com/gpu=0 "$@"
  enable second --device nvidia.com/gpu=1 "$@"
  systemctl daemon-reload
  systemctl start "$(unit guest)" "$(unit second)"
  answers guest
  answers second
  in_machine guest probe cuda /dev/nvidia0 /dev/nvidia1 | equal guest $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
  in_machine second probe cuda /dev/nvidia0 /dev/nvidia1 | equal second $'cuInit 100\nopen /dev/nvidia0 ENOENT\nopen /dev/nvidia1 ENXIO'
  down guest
  in_machine second probe cuda /dev/nvidia1 | equal second $'cuInit 100\nopen /dev/nvidia1 ENXIO'
  down second
  nothing_left second
  nothing_left guest
}

# Many times over, where nothing has to boot: what one has locked or removed is not in the other's way.
many_at_once() {
  local name round jobs
  for name in one two three four; do
    rm -rf "${MACHINES:?}/$name"
    cp -a "$CACHE/nspawn-layouts/fedora" "$MACHINES/$name"
    remember $name
  done
  for round in $(seq 10); do
    jobs=()
    for name in one two three four; do
      "$HOOK" nspawn-prepare --machine=$name --device=nvidia.com/gpu=all && "$HOOK" nspawn-cleanup --machine=$name &
      jobs+=($!)
    done
    for name in "${jobs[@]}"; do wait "$name" || { echo "round $round"; return 1; }; done
    new_mounts | equal mounts ''
  done
  for name in one two three four; do
    untouched $name
    nothing_left $name
    rm -rf "${MACHINES:?}/$name"
  done
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

# Hostile machines that are started. This one gets its GPU all the same, by another way of its loader's.
hostile_tree_starts() {
  local required
  machine guest trixie
  echo 'not a cache' >"$MACHINES/guest/etc/ld.so.cache"
  manifest /srv/outside >/run/outside
  for required in '' --required; do
    enable guest --device nvidia.com/gpu=all $required
    up guest
    in_machine guest probe cuda nvml "${NODES[@]}" | equal answers "cuInit 100
nvmlInit_v2 9
$ALL_NODES"
    down guest
    manifest /srv/outside | diff -u /run/outside -
    nothing_left guest
  done
}

# These cannot be prepared.
hostile_tree_is_told() {
  manifest /srv/outside >/run/outside
  machine guest trixie
  rm -r "$MACHINES/guest/etc/ld.so.conf.d"
  ln -s ../../../../srv/outside/ld.so.conf.d "$MACHINES/guest/etc/ld.so.conf.d"
  either_way '/etc/ld\.so\.conf\.d: no directory, or a link that leads to none'
  machine guest trixie
  mkdir -p "$MACHINES/guest/etc/ld.so.conf.d/00-gpuspec.conf/x"
  either_way '/etc/ld\.so\.conf\.d/00-gpuspec\.conf: a directory, not a regular file'
  manifest /srv/outside | diff -u /run/outside -
}

# fault NAME COMMAND…: a check after which the host is whole again, however it went.
fault() {
  apart "$@"
  umount /run/gpuspec "$MACHINES/guest" 2>/dev/null || true
  remember_mounts
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
  make_killed_at
  fault 'killed midway, at one moment after another' killed_midway
  fault 'killed midway, in the unit' killed_midway_in_the_unit
  fault 'two machines at once' two_at_once
  fault 'two machines at once, where devices are required' two_at_once --required
  rm -rf "$MACHINES/second"
  fault 'many machines at once' many_at_once
  fault 'A20: hostile trees' hostile_trees
  fault 'A20: a machine with a hostile tree starts' hostile_tree_starts
  fault 'A20: a machine whose tree is of no use says so' hostile_tree_is_told
}
