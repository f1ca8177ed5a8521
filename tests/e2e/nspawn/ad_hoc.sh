# shellcheck shell=bash
# `cdi-gen nspawn run`: one command in a root of any kind, which is afterwards what it was.

# run_in ARG… -- COMMAND…: ARGs are systemd-nspawn's.
run_in() { cdi-gen nspawn run --device nvidia.com/gpu=all "$@" </dev/null 2>/run/errors | tr -d '\r'; }

# The driver is found in LIBDIR.
runs() {
  run_in "$@" -- /usr/local/bin/probe cuda nvml whence "${NODES[@]}" >/run/answers || true
  equal answers "cuInit 100
nvmlInit_v2 9
libcuda.so.1 from $LIBDIR/libcuda.so.1
$ALL_NODES" </run/answers || { echo "with $*:"; cat /run/errors; return 1; }
}

# What systemd-nspawn itself puts into a tree (a time zone, a resolv.conf) is there from a run without us.
runs_and_leaves() {
  systemd-nspawn --quiet --directory="$MACHINES/$1" "${@:2}" -- /bin/sh -c : </dev/null
  remember "$1"
  runs --directory="$MACHINES/$1" "${@:2}"
  untouched "$1"
  new_mounts | equal mounts ''
  [ ! -d /run/gpuspec/nspawn ] || find /run/gpuspec/nspawn -mindepth 1 | equal state ''
}

# As a scope of its own (the default), and as a host without systemd has to.
directory_root() {
  runs_and_leaves guest
  runs_and_leaves guest --register=no --keep-unit
}

read_only_root() { runs_and_leaves guest --read-only; }
volatile_roots() {
  runs_and_leaves guest --volatile=overlay
  runs_and_leaves guest --volatile=state
  runs_and_leaves guest --volatile=yes
}
ephemeral_root() { runs_and_leaves guest --ephemeral; }
user_namespace() {
  runs_and_leaves guest --private-users=524288:65536 --private-users-ownership=map
  runs_and_leaves guest -U
}

status_comes_back() {
  local status=0
  run_in --directory="$MACHINES/guest" -- /bin/sh -c 'exit 42' || status=$?
  [ $status = 42 ] || { echo "status $status"; return 1; }
}

# What the machine's own settings mount would be masked by a bind of the command line.
own_mounts_stay() {
  mkdir -p /etc/systemd/nspawn /srv/shared
  echo shared >/srv/shared/file
  printf '[Files]\nBindReadOnly=/srv/shared:/mnt/shared\n' >/etc/systemd/nspawn/guest.nspawn
  run_in --machine=guest -- /bin/sh -c 'cat /mnt/shared/file; probe cuda' | equal answers $'shared\ncuInit 100'
  rm /etc/systemd/nspawn/guest.nspawn
}

# A signal ends the machine, and the clean-up still comes.
terminated() {
  remember guest
  cdi-gen nspawn run --device nvidia.com/gpu=all --directory="$MACHINES/guest" -- /bin/sleep 60 </dev/null >/run/words 2>&1 &
  local started=$! tries=50
  while [ -z "$(our_mounts)" ] && [ $((tries--)) -gt 0 ]; do sleep 0.1; done
  kill -TERM $started
  wait $started || true
  new_mounts | equal mounts ''
  untouched guest
}

layouts_ad_hoc() {
  local name
  for name in fedora arch; do
    layout $name
    LIBDIR=/lib64 runs_and_leaves $name
    LIBDIR=/lib64 runs_and_leaves $name --read-only
  done
}

nixos_ad_hoc() {
  layout nixos
  LIBDIR=/run/opengl-driver/lib runs_and_leaves nixos
}

bullseye_ad_hoc() {
  machine bullseye bullseye
  LIBDIR=/usr$LIBDIR runs_and_leaves bullseye
}

arguments_for_scripts() {
  local arguments
  mapfile -t arguments < <(cdi-gen nspawn args --device nvidia.com/gpu=0 "--directory=$MACHINES/guest")
  remember guest
  systemd-nspawn --quiet "${arguments[@]}" --read-only --directory="$MACHINES/guest" \
    /usr/local/bin/probe cuda nvml /dev/nvidia0 /dev/nvidia1 </dev/null | tr -d '\r' |
    equal answers $'cuInit 100\nnvmlInit_v2 9\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
  untouched guest
}

# ---- images ------------------------------------------------------------------------------------------------------

# $MACHINES/disk.raw was made outside, where mkfs is: Fedora's layout, whose init is the probe.
loop_devices() {
  local loop
  mknod -m 0660 /dev/loop-control c 10 237 2>/dev/null || true
  for loop in $(seq 0 15); do mknod -m 0660 "/dev/loop$loop" b 7 "$loop" 2>/dev/null || true; done
  # systemd-nspawn waits for udev where there is one, and takes this for it.
  # shellcheck disable=SC2016 # perl's own
  systemd-run --quiet --unit=fake-udev --property=RuntimeDirectory=udev \
    perl -e 'use Socket; socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0); bind($s, sockaddr_un("/run/udev/control")); listen($s, 9); sleep'
  while [ ! -S /run/udev/control ]; do sleep 0.1; done
  # 262 believes in a udev only where /sys could be written to.
  mount -o remount,bind,rw /sys
}

images() {
  local mode hash
  for mode in '' --read-only --volatile=yes --volatile=overlay; do
    hash=$(sha256sum "$MACHINES/disk.raw")
    # shellcheck disable=SC2086 # none, or one word
    LIBDIR=/run/gpuspec/lib runs --image="$MACHINES/disk.raw" $mode
    [ "$mode" != --read-only ] || [ "$hash" = "$(sha256sum "$MACHINES/disk.raw")" ] || { echo 'the image changed'; return 1; }
  done
  LIBDIR=/run/gpuspec/lib runs --image="$MACHINES/disk.raw" --private-users=524288:65536 --private-users-ownership=map
}

# systemd-nspawn's unit starts an image as it starts a directory.
booted_image() {
  enable disk --device nvidia.com/gpu=all
  once disk >/run/told
  answers_of_probe | equal answers "$NOT_BOOTED" || { cat /run/told; return 1; }
  disable disk
  nothing_left disk
}

# What can be done about musl: a glibc root in the machine, with what the machine was given.
glibc_within_musl() {
  layout musl
  ln -s busybox "$MACHINES/musl/usr/bin/mount"
  ln -s busybox "$MACHINES/musl/usr/bin/chroot"
  mkdir -p "$MACHINES/musl/opt/other"
  cp -a "$CACHE/nspawn-layouts/fedora/." "$MACHINES/musl/opt/other"
  # shellcheck disable=SC2016 # expanded inside
  run_in --machine=musl -- /bin/sh -euc 'cd /opt/other
    for part in dev proc run; do mount -o rbind /$part $part; done
    chroot . /usr/bin/env LD_LIBRARY_PATH=/run/gpuspec/lib /usr/local/bin/probe cuda /dev/nvidia0' |
    equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO' || { cat /run/errors; return 1; }
}

checks_ad_hoc() {
  machine guest trixie
  apart 'run: a directory; nothing of it changes' directory_root
  apart 'A11: read-only' read_only_root
  apart 'A11: volatile' volatile_roots
  apart 'A11: ephemeral' ephemeral_root
  apart 'A11: user namespace' user_namespace
  apart 'run: the status is that of the command' status_comes_back
  apart 'run: mounts of the settings stay' own_mounts_stay
  apart 'run: a signal, and still nothing is left' terminated
  apart 'run: Fedora and Arch layouts' layouts_ad_hoc
  apart 'run: NixOS layout' nixos_ad_hoc
  if [ -d "$CACHE/nspawn-bullseye" ]; then apart 'run: glibc 2.31' bullseye_ad_hoc; fi
  apart 'args: for scripts' arguments_for_scripts
  loop_devices
  apart 'A12: images' images
  apart 'A12: an image that its unit starts' booted_image
  apart 'musl: a glibc root within' glibc_within_musl
}
