# shellcheck shell=bash
# A booted machine of another Debian than the host's: what its services and shells find, and what is left when it stops.

enabled_machine_has_its_gpus() {
  enable guest --device nvidia.com/gpu=all
  up guest
  has_its_gpus guest
}

# has_its_gpus NAME: a service of it finds driver and devices.
has_its_gpus() {
  in_machine "$1" probe cuda nvml whence "${NODES[@]}" |
    equal answers "cuInit 100
nvmlInit_v2 9
libcuda.so.1 from /run/gpuspec/lib/libcuda.so.1
$ALL_NODES"
}

shell_has_them_too() {
  in_shell guest /usr/local/bin/probe cuda nvml "${NODES[@]}" | equal answers "cuInit 100
nvmlInit_v2 9
$ALL_NODES"
}

# Those by soname, which is all that ldconfig itself lists.
own_ldconfig_keeps_them() {
  in_machine guest ldconfig -p | listed_by_soname >/run/listed
  [ "$(wc -l </run/listed)" -ge 30 ] || { cat /run/listed; return 1; }
  in_machine guest ldconfig
  in_machine guest ldconfig -p | listed_by_soname | diff -u /run/listed -
  in_machine guest probe cuda | equal answers 'cuInit 100'
}

# The driver's version in a name is what a soname has not, where there is one without it.
listed_by_soname() {
  sed -n 's/^\t\([^ ]*\) .* => \/run\/gpuspec\/lib\/.*/\1/p' | grep -vE '^(libGLX_indirect\.so\.0|libnvidia-egl-(gbm|wayland)\.so\.1\.1\..*)$' |
    awk '{ stem = $1; sub(/\.so\..*/, "", stem) } /550\.163\.01$/ { full[stem] = $1; next } { short[stem] = 1; print }
      END { for (stem in full) if (!(stem in short)) print full[stem] }' | sort
}

reload_changes_nothing() {
  systemctl daemon-reload
  systemctl daemon-reload
  systemctl daemon-reload
  in_machine guest probe "${NODES[@]}" | equal answers "$ALL_NODES"
}

user_namespace_is_the_units_own() {
  in_machine guest cat /proc/self/uid_map | grep -xE ' *0 +[1-9][0-9]+ +65536'
}

# The rules of the unit are those of the template and ours, and no other.
rules_are_exact() {
  local rule
  {
    allowed other
    for rule in 195:0 195:1 195:254 195:255; do echo "/dev/char/$rule rw"; done
    for rule in 226:0 226:1 226:128 226:129; do echo "/dev/char/$rule rwm"; done
    echo 'char-nvidia-uvm rw'
  } | sort >/run/rules
  allowed guest | diff -u /run/rules -
}
allowed() { systemctl show --property=DeviceAllow "$(unit "$1")" | sed 's/^DeviceAllow=//' | sort; }

# All that its settings say. A login shell has a search path of its own.
environment_reaches_all() {
  sed -n 's/^Environment=\([^"]\)/\1/p' /run/systemd/nspawn/guest.nspawn | sort >/run/variables
  holds NVIDIA_VISIBLE_DEVICES=void </run/variables
  in_machine guest env | missing_variables
  in_shell guest /usr/bin/env | missing_variables
  sed -i '/^PATH=/d' /run/variables
  in_shell guest /bin/sh -lc env | missing_variables
}
missing_variables() { sort | comm -13 - /run/variables | equal 'variables that are not there' ''; }

# Nobody in the machine can make it; by number it is allowed all the same, so it works when the host makes it.
other_node_works_by_its_number() {
  nsenter --target "$(leader guest)" --mount mknod -m 0666 /dev/late c 195 1
  in_machine guest probe /dev/late | equal answers 'open /dev/late ENXIO'
  nsenter --target "$(leader guest)" --mount mknod -m 0666 /dev/other c 195 7
  in_machine guest probe /dev/other | equal answers 'open /dev/other EPERM'
}

# No node was there when the machine started, and so it has no GPU; what its unit lets through are numbers, so they may
# come at any time after, and nothing has to be started again.
late_nodes_work() {
  enable guest --device nvidia.com/gpu=all
  rm -r /dev/nvidia* /dev/dri
  up guest
  in_machine guest probe "${NODES[@]}" | equal answers "$NO_NODES"
  nsenter --target "$(leader guest)" --mount mknod -m 0666 /dev/nvidia1 c 195 1
  in_machine guest probe /dev/nvidia1 | equal answers 'open /dev/nvidia1 ENXIO'
  nsenter --target "$(leader guest)" --mount rm /dev/nvidia1
  make_nodes
  attach guest --device nvidia.com/gpu=all
  in_machine guest probe cuda nvml "${NODES[@]}" | equal answers "cuInit 100
nvmlInit_v2 9
$ALL_NODES"
  # The stop takes back what was attached, and what the start left of its own, though systemd is reloaded meanwhile.
  down guest
  nothing_left guest
}

render_nodes_belong_to_the_machines_group() {
  render_node_is_the_machines
  in_machine guest probe /dev/dri/renderD128 /dev/dri/renderD129 |
    equal answers $'open /dev/dri/renderD128 ENXIO\nopen /dev/dri/renderD129 ENXIO'
}

# On the kernel's own file system for nodes, which maps no users.
render_node_of_a_devtmpfs() {
  local node=/run/devtmpfs/libgpuspec-render
  mkdir -p /run/devtmpfs /run/specs
  mount -t devtmpfs devtmpfs /run/devtmpfs
  remember_mounts
  mknod -m 0660 $node c 226 128
  chgrp render $node
  printf 'cdiVersion: 0.5.0\nkind: example.com/render\ndevices:\n- name: one\n  containerEdits:\n    deviceNodes:\n    - path: /dev/dri/renderD128\n      hostPath: %s\n' \
    $node >/run/specs/render.yaml
  enable guest --device example.com/render=one --spec-dir /run/specs
  up guest
  render_node_is_the_machines
  down guest
  nothing_left guest
}
render_node_is_the_machines() {
  in_machine guest ls -n /dev/dri/renderD128 | awk '{ print $1, $3, $4 }' | equal owner 'crw-rw---- 0 991'
  in_machine guest probe /dev/dri/renderD128 | equal answers 'open /dev/dri/renderD128 ENXIO'
}
no_devtmpfs() {
  rm -f /run/devtmpfs/libgpuspec-render
  umount /run/devtmpfs 2>/dev/null || true
  remember_mounts
}

driver_is_read_only() {
  refused in_machine guest sh -c 'echo x >>/run/gpuspec/lib/libcuda.so.1'
  refused in_machine guest touch /run/gpuspec/lib/x
}

stop_leaves_nothing() {
  down guest
  nothing_left guest
}

# A machine that has booted before: its loader's cache has its bytes again, and no empty file is where a bind was.
stop_leaves_the_bytes() {
  local cache=$MACHINES/guest/etc/ld.so.cache
  sha256sum "$cache" >/run/hash
  touch /run/stamp
  up guest
  has_its_gpus guest
  refused sha256sum --check --quiet /run/hash
  down guest
  sha256sum --check --quiet /run/hash
  find "$MACHINES/guest" -xdev -newer /run/stamp -size 0 -type f | sed -nE '/nvidia|cuda|gpuspec|ld\.so/p' | equal 'empty files' ''
  nothing_left guest
}

# Two runs of a fresh machine of that name, with us and without: the same paths are there, and all that no boot touches
# is the same to the last bit.
boots_leave_the_same() {
  local name=$1 suite=$2 with=/run/with without=/run/without changed=/run/changed
  disable "$name"
  machine "$name" "$suite"
  remember "$name"
  whole_boot "$name"
  down "$name"
  manifest "$MACHINES/$name" >$without
  ldconfig -p -C "$MACHINES/$name/etc/ld.so.cache" >/run/cache.without
  # What a boot without us writes: compared by path and kind. Its getty writes a line when it comes to it.
  echo var/log/wtmp >$changed
  diff --changed-group-format='%<%>' --unchanged-group-format='' "/run/before.$name" $without | sed 's/|.*//' | sort -u >>$changed || true
  machine "$name" "$suite"
  enable "$name" --device nvidia.com/gpu=all
  whole_boot "$name"
  in_machine "$name" probe cuda | equal answers 'cuInit 100'
  down "$name"
  disable "$name"
  manifest "$MACHINES/$name" >$with
  # The machine made its loader's cache anew, this being its first boot, while the driver was in it.
  ldconfig -p -C "$MACHINES/$name/etc/ld.so.cache" | diff -u /run/cache.without -
  diff -u <(less_of $changed <$without) <(less_of $changed <$with)
}
whole_boot() {
  up "$1"
  in_machine "$1" systemctl is-system-running --wait || [ $? = 1 ]
}
# less_of LIST: a manifest, in which the paths of LIST have lost all but type, mode and owner.
less_of() {
  awk -F'|' -v list="$1" 'BEGIN { while ((getline path < list) > 0) loose[path] = 1 }
    !($1 in loose) { print; next }
    $2 ~ / / { split($2, part, " "); print $1 "|" part[1], part[2], part[3] }'
}

# Its root is the host's in all that systemd-nspawn does not take away.
host_root_cannot_write_to_the_driver() {
  mkdir -p /etc/systemd/nspawn
  printf '[Exec]\nPrivateUsers=no\n' >/etc/systemd/nspawn/guest.nspawn
  enable guest --device nvidia.com/gpu=all
  up guest
  in_machine guest cat /proc/self/uid_map | holds '4294967295'
  withstands guest
  in_machine guest probe cuda nvml /dev/nvidia0 | equal answers $'cuInit 100\nnvmlInit_v2 9\nopen /dev/nvidia0 ENXIO'
  renewed_while_it_runs
  told guest | lacks 'no overlay'
  killed guest
  nothing_left guest
  rm /etc/systemd/nspawn/guest.nspawn
  disable guest
}

# Files of the driver are renewed as packages do it; the machine keeps those that it was started with.
renewed_while_it_runs() {
  local file
  file=$(find /usr/lib -name 'libcuda.so.550.*' -type f)
  in_machine guest sha256sum /run/gpuspec/lib/libcuda.so.1 >/run/sum
  cp -a "$file" /run/kept
  echo renewed >"$file.new"
  mv "$file.new" "$file"
  in_machine guest sha256sum /run/gpuspec/lib/libcuda.so.1 | diff -u /run/sum -
  in_machine guest probe cuda | equal answers 'cuInit 100'
  cp -a /run/kept "$file.new"
  mv "$file.new" "$file"
  in_machine guest probe cuda | equal answers 'cuInit 100'
}

disable_leaves_nothing() {
  enable guest --device nvidia.com/gpu=all
  [ -f /etc/systemd/system/systemd-nspawn@guest.service.d/50-gpuspec.conf ]
  disable guest
  [ ! -e /etc/systemd/system/systemd-nspawn@guest.service.d ]
}

one_gpu_of_two() {
  enable guest --device nvidia.com/gpu=0
  up guest
  nsenter --target "$(leader guest)" --mount mknod -m 0666 /dev/second c 195 1
  in_machine guest probe cuda /dev/nvidia0 /dev/nvidia1 /dev/second |
    equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT\nopen /dev/second EPERM'
  down guest
  nothing_left guest
}

killed() {
  kill -KILL "$(systemctl show --value --property=MainPID "$(unit "$1")")"
  ended "$1"
  systemctl reset-failed "$(unit "$1")"
  # What systemd-nspawn itself leaves then, and does not start over: 257 always, 262 where its clean-up did not run.
  umount "/run/systemd/nspawn/unix-export/$1" "/run/systemd/nspawn/$1/unix-export" 2>/dev/null || true
}

killed_machine_is_cleaned_up() {
  enable guest --device nvidia.com/gpu=all
  up guest
  killed guest
  nothing_left guest
  starts_as_if_nothing_had_been
}

# A2 to A5 again.
starts_as_if_nothing_had_been() {
  up guest
  has_its_gpus guest
  own_ldconfig_keeps_them
  reload_changes_nothing
  down guest
  nothing_left guest
  stop_leaves_the_bytes
}

# The clean-up did not run either: the next start finds what the last one left.
killed_without_clean_up() {
  enable guest --device nvidia.com/gpu=all
  printf '[Service]\nExecStopPost=\n' >"/etc/systemd/system/$(unit guest).d/60-none.conf"
  up guest
  killed guest
  rm "/etc/systemd/system/$(unit guest).d/60-none.conf"
  [ -d /run/gpuspec/nspawn/guest ]
  starts_as_if_nothing_had_been
}

stale_library_of_the_machine_gives_way() {
  enable guest --device nvidia.com/gpu=all
  cp "$MACHINES/guest/usr/lib/x86_64-linux-gnu/libc.so.6" "$MACHINES/guest/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
  cp "$MACHINES/guest/usr/lib/x86_64-linux-gnu/libc.so.6" "$MACHINES/guest/usr/lib/x86_64-linux-gnu/libcuda.so.1"
  up guest
  in_machine guest ldconfig
  in_machine guest probe cuda nvml | equal answers $'cuInit 100\nnvmlInit_v2 9'
  down guest
  rm "$MACHINES/guest/usr/lib/x86_64-linux-gnu/"lib{nvidia-ml,cuda}.so.1
}

checks_booted() {
  machine guest trixie
  check 'A2: a booted machine of another Debian has driver and devices' enabled_machine_has_its_gpus
  check 'A2: in machinectl shell too' shell_has_them_too
  check 'A3: its own ldconfig keeps the driver' own_ldconfig_keeps_them
  check 'A4: a reload of systemd takes nothing away' reload_changes_nothing
  check 'A6: it is in a user namespace' user_namespace_is_the_units_own
  check 'A9: the unit allows exactly these devices' rules_are_exact
  check 'A10: variables reach services and shells' environment_reaches_all
  check 'A8: a node that comes late works by its number' other_node_works_by_its_number
  check 'A21: render nodes belong to the group of the machine' render_nodes_belong_to_the_machines_group
  check 'the driver cannot be written to' driver_is_read_only
  check 'A5: a stop leaves nothing' stop_leaves_nothing
  check 'A5: the loader has its bytes again, and no empty file is left' stop_leaves_the_bytes
  check 'A8: nodes that come after the start work without a restart' late_nodes_work
  make_nodes
  if mount -t devtmpfs devtmpfs /mnt 2>/dev/null; then
    umount /mnt
    check 'A21: also those of a devtmpfs' render_node_of_a_devtmpfs
    no_devtmpfs
    calm
  else
    skip 'A21: also those of a devtmpfs' 'no devtmpfs can be mounted here'
  fi
  check 'A7: one GPU of two' one_gpu_of_two
  check 'A25: a killed machine is cleaned up, and starts again' killed_machine_is_cleaned_up
  check 'A25: also where the clean-up was kept from running' killed_without_clean_up
  check 'A23: stale libraries in the machine give way' stale_library_of_the_machine_gives_way
  check 'without a user namespace its root cannot write to the driver' host_root_cannot_write_to_the_driver
  check 'disable leaves nothing' disable_leaves_nothing
  check 'A5: two boots, with and without us, leave the same' boots_leave_the_same guest trixie
}
