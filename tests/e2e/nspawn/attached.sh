# shellcheck shell=bash
# Machines that run already: devices attached without a restart, and detached.

attach() { cdi-gen nspawn attach "$@"; }
detach() { cdi-gen nspawn detach "$@"; }

# look NAME: all that an attachment could leave in a running machine, or in what its unit may do.
look() {
  leader "$1"
  systemctl show --property=DevicePolicy,DeviceAllow "$2" | sort
  find /run/systemd/system.control /run/systemd/system -name '*gpuspec*' -o -name '*DeviceAllow*' 2>/dev/null || true
  nsenter --target "$(leader "$1")" --mount sh -c '
    cut -d " " -f 4- /proc/1/mountinfo | sed "s/[a-z]*:[0-9]*//g" | grep -E " /(dev|usr|etc|run/gpuspec|proc/driver)|gpuspec" | sort
    find /dev /run/gpuspec -printf "%p %y %#m %U:%G\n" 2>/dev/null | grep -v -E "^/dev/((pts|shm|mqueue)/|char/195:)" | sort'
}

# Links in /dev/char are the work of libnvidia-ml itself, where it may.

# attached NAME UNIT: it has the devices, and the process that it had.
attached() {
  in_machine "$1" probe cuda nvml whence "${NODES[@]}" |
    equal answers "cuInit 100
nvmlInit_v2 9
libcuda.so.1 from $LIBDIR/libcuda.so.1
$ALL_NODES"
  leader "$1" | equal leader "$(head -n 1 /run/look)"
}

# without NAME UNIT: nobody can tell that it ever had them.
without() {
  in_machine "$1" probe "${NODES[@]}" | equal answers "$NO_NODES"
  refused in_machine "$1" probe cuda
  look "$1" "$2" | diff -u --label before --label now /run/look -
  nothing_left "$1"
}

# there_and_back NAME UNIT: the whole way of a running machine.
there_and_back() {
  look "$1" "$2" >/run/look
  without "$1" "$2"
  attach "$1" --device nvidia.com/gpu=all
  attached "$1"
}

running_machine_gets_its_gpus() {
  machine guest trixie
  up guest
  there_and_back guest "$(unit guest)"
}

its_unit_lets_exactly_these_through() {
  local rule
  {
    for rule in 195:{0,1,254,255} 226:{0,1,128,129}; do
      echo "/dev/char/$rule rw"
    done
    echo 'char-nvidia-uvm rw'
    sed -n 's/^DeviceAllow=//p' /run/look
  } | sort | diff -u - <(allowed guest)
}

reloads_take_nothing_away() {
  systemctl daemon-reload
  systemctl daemon-reload
  systemctl daemon-reload
  attached guest
}

nodes_belong_to_its_group() {
  in_machine guest cat /proc/self/uid_map >/run/map
  refused grep -x ' *0 *0 .*' /run/map
  in_machine guest ls -n /dev/dri/renderD128 | awk '{ print $1, $3, $4 }' | equal owner 'crw-rw---- 0 991'
  in_machine guest probe /dev/dri/renderD128 | equal answers 'open /dev/dri/renderD128 ENXIO'
}

nothing_of_it_can_be_written() {
  refused in_machine guest touch /run/gpuspec/lib/x
  refused in_machine guest sh -c 'echo x >>/run/gpuspec/lib/libcuda.so.1'
  # What its root may not do with mounts that came with the machine's start, it may not do with these.
  local place
  for place in /run/gpuspec /run/gpuspec/lib/libcuda.so.1; do
    refused in_machine guest mount -o remount,bind,rw $place
    refused in_machine guest mount -o remount,bind,ro,dev $place
    refused in_machine guest mount -o remount,bind,ro,nodev,suid $place
  done
  refused in_machine guest mount -o remount,bind,rw,suid,noexec /dev/nvidia0
}

variables_are_in_a_file() {
  in_machine guest env | lacks NVIDIA_VISIBLE_DEVICES
  in_machine guest --property=EnvironmentFile=/run/gpuspec/environment env | holds NVIDIA_VISIBLE_DEVICES=void
}

asked_twice() {
  attach guest --device nvidia.com/gpu=all
  local status=0
  attach guest --device nvidia.com/gpu=0 || status=$?
  echo $status | equal status 4
  attached guest
}

detach_takes_all_back() {
  detach guest
  without guest "$(unit guest)"
  detach guest
}

killed_half_way() {
  mkdir -p /run/stub
  # shellcheck disable=SC2016 # expanded there
  printf '#!/bin/sh\ncase $1 in set-property) kill -KILL $PPID ;; esac\nexec /usr/bin/systemctl "$@"\n' >/run/stub/systemctl
  chmod 0755 /run/stub/systemctl
  refused env PATH="/run/stub:$PATH" cdi-gen nspawn attach guest --device nvidia.com/gpu=all
  [ -e /run/gpuspec/nspawn/guest/attached.json ]
  attach guest --device nvidia.com/gpu=all
  attached guest
  # After the last mount, before it was said to be all.
  sed -i 's/"done": true/"done": false/' /run/gpuspec/nspawn/guest/attached.json
  attach guest --device nvidia.com/gpu=all
  attached guest
  refused env PATH="/run/stub:$PATH" cdi-gen nspawn detach guest
  detach guest
  without guest "$(unit guest)"
}

# While the unit's rules are open the machine counts as attached; a killed writer's file goes too.
unit_cannot_be_told() {
  local dropins
  dropins=/run/systemd/system/$(unit guest).d
  attach guest --device nvidia.com/gpu=all
  printf '#!/bin/sh\nexit 1\n' >/run/stub/systemctl
  local status=0
  PATH="/run/stub:$PATH" detach guest >/run/said 2>&1 || status=$?
  echo $status | equal status 1
  holds 'may still use the devices' </run/said
  cdi-gen nspawn status guest 2>&1 | holds 'attached'
  allowed guest | holds '/dev/char/195:0 rw'
  [ -e "$dropins/40-gpuspec-attached.conf" ]
  echo x >"$dropins/.40-gpuspec-attached.conf.gpuspec"
  detach guest
  without guest "$(unit guest)"
  [ ! -e "$dropins/.40-gpuspec-attached.conf.gpuspec" ]
}

# A machine that would have things made where they stay: its /dev/dri leads to its own /etc.
link_to_what_stays() {
  in_machine guest ln -s /etc /dev/dri
  attach guest --device nvidia.com/gpu=all 2>&1 | holds '/dev/dri/renderD128: in a part of the machine'
  refused in_machine guest test -e /etc/renderD128
  in_machine guest probe cuda /dev/nvidia0 | equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO'
  detach guest
  in_machine guest rm /dev/dri
  without guest "$(unit guest)"
}

by_its_first_process_alone() {
  attach guest --device nvidia.com/gpu=all --leader "$(leader guest)" 2>&1 | holds 'no unit is told'
  in_machine guest probe cuda /dev/nvidia0 | equal answers $'cuInit 100\nopen /dev/nvidia0 EPERM'
  detach guest
  without guest "$(unit guest)"
}

stop_takes_all_back() {
  attach guest --device nvidia.com/gpu=all
  down guest
  nothing_left guest
  up guest
  sed 1d /run/look | diff -u - <(look guest "$(unit guest)" | sed 1d)
}

unknown_machine_is_told() {
  { attach nobody --device nvidia.com/gpu=all 2>&1 || true; } | holds 'does not run, or systemd-machined does not know it'
}

# Two runs of a fresh machine, with us and without, as for machines that are prepared.
settled() { in_machine "$1" systemctl is-system-running --wait || true; }
attached_boots_leave_the_same() {
  down guest
  machine guest trixie
  remember guest
  up guest
  settled guest
  down guest
  manifest "$MACHINES/guest" >/run/without
  diff --changed-group-format='%<%>' --unchanged-group-format='' /run/before.guest /run/without | sed 's/|.*//' | sort -u >/run/changed || true
  machine guest trixie
  up guest
  attach guest --device nvidia.com/gpu=all
  in_machine guest probe cuda | equal answers 'cuInit 100'
  settled guest
  down guest
  manifest "$MACHINES/guest" >/run/with
  diff -u <(less_of /run/changed </run/without) <(less_of /run/changed </run/with)
}

machine_without_a_user_namespace() {
  machine guest trixie
  mkdir -p /run/systemd/nspawn
  printf '[Exec]\nPrivateUsers=no\n' >/run/systemd/nspawn/guest.nspawn
  up guest
  in_machine guest cat /proc/self/uid_map | holds '4294967295'
  rm /run/systemd/nspawn/guest.nspawn
  there_and_back guest "$(unit guest)"
  in_machine guest ls -n /dev/dri/renderD128 | awk '{ print $1, $3, $4 }' | equal owner 'crw-rw---- 0 991'
  detach guest
  without guest "$(unit guest)"
  attach guest --device nvidia.com/gpu=all
  withstands guest
  in_machine guest probe cuda | equal answers 'cuInit 100'
  detach guest
  down guest
  nothing_left guest
}

machine_of_a_scope() {
  machine guest trixie
  systemd-run --quiet --unit=by-hand --property=Delegate=yes systemd-nspawn --quiet --boot --machine=guest \
    --directory="$MACHINES/guest" --private-network -U
  answers guest
  there_and_back guest machine-guest.scope
  detach guest
  without guest machine-guest.scope
  attach guest --device nvidia.com/gpu=all
  machinectl terminate guest
  local tries=50
  while systemctl --quiet is-active by-hand && [ $((tries--)) -gt 0 ]; do sleep 0.1; done
  detach guest
  nothing_left guest
}

machine_that_was_prepared() {
  machine guest trixie
  enable guest --device nvidia.com/gpu=all
  up guest
  attach guest --device nvidia.com/gpu=all 2>&1 | holds 'since its start'
  local status=0
  attach guest --device nvidia.com/gpu=0 || status=$?
  echo $status | equal status 4
  status=0
  detach guest || status=$?
  echo $status | equal status 4
  in_machine guest probe cuda /dev/nvidia0 | equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO'
  down guest
  disable guest
  nothing_left guest
}

checks_attached() {
  check 'A22: a running machine gets its GPUs without a restart' running_machine_gets_its_gpus
  check 'A22: its unit lets exactly these through' its_unit_lets_exactly_these_through
  check 'A22: reloads of systemd take nothing away' reloads_take_nothing_away
  check 'A22: nodes belong to the group of the machine' nodes_belong_to_its_group
  check 'A22: nothing of it can be written' nothing_of_it_can_be_written
  check 'A22: variables are in a file' variables_are_in_a_file
  check 'A22: who asks twice is told' asked_twice
  check 'A22: detach takes all back' detach_takes_all_back
  check 'A22: killed half-way, it is taken back by the next' killed_half_way
  check 'A22: a unit that cannot be told leaves it attached' unit_cannot_be_told
  check 'A22: a link of the machine leads to nothing that stays' link_to_what_stays
  check 'A22: by the first process alone, no cgroup is opened' by_its_first_process_alone
  check 'A22: a stop takes all back' stop_takes_all_back
  check 'A22: a machine that is not there' unknown_machine_is_told
  check 'A22: two boots, with and without an attachment, leave the same' attached_boots_leave_the_same
  check 'A22: without a user namespace' machine_without_a_user_namespace
  calm
  check 'A22: a machine of a scope' machine_of_a_scope
  check 'A22: a machine that was prepared for its start' machine_that_was_prepared
}
