# shellcheck shell=bash
# Podman as this machine allows it: a private store, private spec directories, and what limits and cgroups require.
# None of this is needed on an ordinary host; nothing of it is known to the programs under test.

# podman_room: sets podman up with its configuration in $ROOM; later calls of podman in this process use it.
podman_room() {
  cat >"$ROOM/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$CACHE/podman"
runroot = "/run/libgpuspec-tests"
CONF
  cat >"$ROOM/containers.conf" <<CONF
[containers]
netns = "host"
log_driver = "k8s-file"
$(podman_limits)
[engine]
cgroup_manager = "$([ -d /run/systemd/system ] && echo systemd || echo cgroupfs)"
events_logger = "file"
tmp_dir = "/run/libgpuspec-tests/libpod"
CONF
  export CONTAINERS_STORAGE_CONF=$ROOM/storage.conf CONTAINERS_CONF=$ROOM/containers.conf
}

# Without CAP_SYS_RESOURCE (bit 24) nobody may raise a limit, and podman asks for high ones unless told otherwise
# (after lowering its own): ask for what every process has.
podman_limits() {
  local capabilities
  capabilities=$((16#$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)))
  ((capabilities >> 24 & 1)) ||
    echo 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]'
}

# in_private_mounts COMMAND…: runs it where /etc/cdi, /run/cdi and $ROOM are empty and its own, and vanish with it: so
# no spec of this machine is read or touched; and where no second, empty cgroup hierarchy confuses the OCI runtime
# (hybrid hosts).
in_private_mounts() {
  local dir made=() status=0 lock outer=${ROOM_HELD:-}
  export ROOM=$CACHE/room
  # One run at a time: a mount point that one run removes at its end would take the other run's mount along.
  # Within a run, a further one (the test of the demonstration) goes in under the lock already held.
  exec {lock}>"$CACHE/room.lock"
  [ -n "${ROOM_HELD:-}" ] || flock --timeout 1800 "$lock" ||
    die "another run has held $CACHE/room.lock for half an hour"
  export ROOM_HELD=1
  for dir in /etc/cdi /run/cdi "$ROOM"; do
    [ -d "$dir" ] || {
      mkdir -p "$dir"
      made+=("$dir")
    }
  done
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount bash -euc '
    for dir in /etc/cdi /run/cdi "$ROOM"; do
      mount -t tmpfs -o mode=0755 tmpfs "$dir"
    done
    ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
    exec "$@"' in_private_mounts "$@" {lock}>&- || status=$?
  [ ${#made[@]} = 0 ] || rmdir "${made[@]}" 2>/dev/null || true
  exec {lock}>&-
  [ -n "$outer" ] || unset ROOM_HELD
  return $status
}
