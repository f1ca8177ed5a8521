# shellcheck shell=bash
# OCI bundles of the plain image, and cgroups of either version to run them in.

# bundle KIND JQ…: $ROOM/bundle with a fresh root; its config.json is what `runc spec` says, changed for KIND (plain,
# read-only, userns) and by the jq program. $IMAGE_TAR is the image, $PROBE the probe.
bundle() {
  local kind=$1 root=$ROOM/bundle/rootfs image=$ROOM/image owner=0 change='.'
  shift
  case $kind in
    read-only) change='.root.readonly = true' ;;
    userns)
      # A runtime shifts no owners: the image of root's, which there is 100000.
      image=$ROOM/image-shifted owner=100000
      change='.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] |
        .linux.gidMappings = .linux.uidMappings'
      ;;
  esac
  [ -d "$image" ] || {
    mkdir "$image"
    tar --extract --file "$IMAGE_TAR" --directory "$image"
    chown --recursive --no-dereference --from=0:0 $owner:$owner "$image"
  }
  mkdir -p "$root"
  ! mountpoint -q "$root" || umount "$root"
  rm -rf "$ROOM/over" && mkdir -p "$ROOM/over/up" "$ROOM/over/work"
  chown $owner:$owner "$ROOM/over/up"
  mount -t overlay overlay -o "lowerdir=$image,upperdir=$ROOM/over/up,workdir=$ROOM/over/work" "$root"
  cp "$PROBE" "$root/probe"
  rm -f "$ROOM/bundle/config.json"
  (cd "$ROOM/bundle" && runc spec)
  jq ".process.terminal = false | .root.readonly = false | $change" "$ROOM/bundle/config.json" >"$ROOM/config"
  jq "$@" "$ROOM/config" >"$ROOM/bundle/config.json"
}

# reconfigured JQ: the bundle's config changed once more.
reconfigured() {
  jq "$@" "$ROOM/bundle/config.json" >"$ROOM/config"
  cp "$ROOM/config" "$ROOM/bundle/config.json"
}

# cgroup_v2: these (private) mounts have cgroup version 2 and nothing of version 1, as a machine that knows no other.
# Controllers that the machine has in version 1 stay there; which devices are allowed is no controller's matter.
cgroup_v2() {
  umount --recursive /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
}
