# shellcheck shell=bash
# A host whose first process is systemd, on a machine where it need not be: a suite's root with a driver laid over it, in
# memory, booted by systemd-nspawn without the help of the machine's own systemd, D-Bus or udev. In it machines are started
# by systemd-nspawn@.service, as on any host. It ends with the process that began it, whatever becomes of that.
#
# Needs $ROOM, a private tmpfs (in_nspawn_room). One host at a time in a room; several rooms do not disturb each other.

# in_nspawn_room COMMAND…: runs it with $ROOM, in mounts of its own. What is in there vanishes with it.
in_nspawn_room() {
  local status=0
  ROOM=$(mktemp -d)
  export ROOM
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount --propagation private bash -euc '
    mount -t tmpfs -o mode=0755 tmpfs "$ROOM"
    exec "$@"' in_nspawn_room "$@" || status=$?
  rmdir "$ROOM"
  return $status
}

# host_root SUITE DRIVER: lays out $ROOM/host, the root of a host that has not been started yet.
host_root() {
  local root=$ROOM/host
  mkdir -p "$root" "$ROOM/upper" "$ROOM/work" "$ROOM/machines"
  mount -t overlay -o \
    "lowerdir=$CACHE/driver-$2/root:$CACHE/nspawn-$1,upperdir=$ROOM/upper,workdir=$ROOM/work" host "$root"
  chroot "$root" /sbin/ldconfig
  # What would only wait for a network, or for devices.
  ln -sf /dev/null "$root/etc/systemd/system/systemd-networkd-wait-online.service"
}

# host_start ARG…: boots $ROOM/host; ARGs are systemd-nspawn's. Answers 1, with the last it said, when it does not come up.
host_start() {
  local tries=150
  HOST_CGROUP=/sys/fs/cgroup/libgpuspec-host-$$
  cat >"$ROOM/start" <<'SCRIPT'
set -eu
cgroup=$1 root=$2
shift 2
# Of hybrid hosts the unified hierarchy alone: what the first process of the new host finds in /sys/fs/cgroup is its own.
while mountpoint -q /sys/fs/cgroup; do umount -R /sys/fs/cgroup; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$cgroup"
echo $$ >"$cgroup/cgroup.procs"
exec systemd-nspawn --quiet --register=no --keep-unit --boot --machine="${cgroup##*/}" --directory="$root" \
  --private-network --capability=all --system-call-filter='@privileged bpf keyctl add_key' --console=pipe "$@"
SCRIPT
  # A process namespace around it: without one, the host's first process would survive a systemd-nspawn that is killed.
  setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child --mount-proc setsid bash "$ROOM/start" "$HOST_CGROUP" "$ROOM/host" \
    --bind="$ROOM/machines:/var/lib/machines" "$@" >"$ROOM/host.log" 2>&1 </dev/null &
  HOST_PID=$!
  trap host_stop EXIT
  while [ $((tries--)) -gt 0 ]; do
    sleep 0.2
    HOST_LEADER=$(pgrep --parent "$(pgrep --parent "$HOST_PID")" 2>/dev/null) || continue
    case $(host_exec systemctl is-system-running 2>/dev/null) in
      running | degraded) return 0 ;;
    esac
    kill -0 "$HOST_PID" 2>/dev/null || break
  done
  tail -n 20 "$ROOM/host.log" >&2
  return 1
}

# host_exec COMMAND…: in the host, without anything of the machine's environment.
host_exec() {
  nsenter --target "$HOST_LEADER" --mount --uts --ipc --net --pid --cgroup --root --wd env -i \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"
}

# host_run ARG… COMMAND…: the same as a service of the host, so that what it starts is in a control group of the host.
host_run() { host_exec systemd-run --quiet --pipe --wait --collect --property=Delegate=yes "$@"; }

host_stop() {
  trap - EXIT
  # Halt at once (SIGRTMIN+3 would be the polite way); a host that does not is killed.
  kill -s RTMIN+13 "$HOST_LEADER" 2>/dev/null || true
  timeout 20 tail --pid="$HOST_PID" --follow /dev/null || kill -KILL "$HOST_PID" 2>/dev/null || true
  wait "$HOST_PID" 2>/dev/null || true
  sweep_cgroups
}

# The control groups of hosts that are no more, however they ended.
sweep_cgroups() {
  local cgroup owner
  for cgroup in /sys/fs/cgroup{,/unified,/systemd}/libgpuspec-host-*; do
    owner=${cgroup##*-}
    if [ "$owner" != $$ ] && kill -0 "$owner" 2>/dev/null; then
      continue
    fi
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}
