# shellcheck shell=bash
# Debian suites with their engines, as roots made from packages, and the way into one.

# What the suites have of engines and runtimes, and what those ask for as a plain user.
SUITE_PACKAGES=podman,containerd,crun,runc,docker.io,busybox-static,jq,uidmap,fuse-overlayfs,slirp4netns

# suite_packages SUITE: bookworm's Docker is one package, later ones are two.
suite_packages() { case $1 in bookworm) echo "$SUITE_PACKAGES" ;; *) echo "$SUITE_PACKAGES,docker-cli" ;; esac; }

# suite_root SUITE: makes sure of $CACHE/engines-SUITE.
suite_root() { cached "engines-$1" "$(suite_packages "$1") 1" make_suite "$1"; }

make_suite() {
  local apt
  need mmdebstrap=mmdebstrap || return 1
  apt=$(private_apt "$1") || return 1
  apt_transport >"$apt/transport.conf"
  mmdebstrap --quiet --variant=minbase --aptopt="$apt/transport.conf" --aptopt='APT::Install-Recommends "false"' \
    --include="$(suite_packages "$1")" "$1" "$2" "$apt/sources.list"
}

# enter_suite SUITE DRIVER COMMAND…: runs it with the suite's root as /, which is a mount point so that the runtimes can
# pivot. What is written there vanishes with the (private) mounts. /run/programs has ours and the probe, /run/driver the
# driver, /run/image the plain image.
enter_suite() {
  local suite=$1 driver=$2 root=$ROOM/root dir
  shift 2
  mkdir "$root" "$ROOM/upper" "$ROOM/work" "$ROOM/programs"
  cp "$(built cdi-gen)" "$(built oci-hook)" "$(built oci-hook-inject)" "$ROOM/programs"
  gcc -O2 -o "$ROOM/programs/probe" "$CHECKOUT/tests/e2e/probe.c" -ldl
  gcc -O2 -shared -fPIC -o "$ROOM/programs/memlock.so" "$CHECKOUT/tests/e2e/memlock.c"
  driver_version "$driver" >"$ROOM/programs/driver-version"
  mount -t overlay -o "lowerdir=$CACHE/engines-$suite,upperdir=$ROOM/upper,workdir=$ROOM/work" suite "$root"
  for dir in proc sys dev; do
    mount --rbind "/$dir" "$root/$dir"
  done
  mount -t tmpfs -o mode=0755 tmpfs "$root/run"
  mkdir -p "$root$CHECKOUT" "$root"/run/{old,programs,driver,image,cache/room} "$root$(dirname "$RESULTS")"
  : >"$root$RESULTS"
  mount --bind "$RESULTS" "$root$RESULTS"
  mount --bind "$ROOM/programs" "$root/run/programs"
  mount --bind -o ro "$CACHE/driver-$driver/installed" "$root/run/driver"
  mount --bind -o ro "$CACHE/image" "$root/run/image"
  mount --bind -o ro "$CHECKOUT" "$root$CHECKOUT"
  cd "$root" || exit
  pivot_root . run/old
  exec env -i PATH=/run/programs:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RESULTS="$RESULTS" LIBGPUSPEC_CACHE=/run/cache \
    ROOM=/run/cache/room bash -euc 'cd /; umount --lazy /run/old; exec "$@"' enter_suite "$@"
}
