# shellcheck shell=bash
# The container image of the tests: a plain Debian root, made from packages (no image registry is asked).

IMAGE=localhost/libgpuspec-debian:bookworm-1

# debian_image: makes sure of $CACHE/image/debian.tar and of $IMAGE in podman's (private) store.
debian_image() {
  cached image "$IMAGE" make_debian_tar
  podman image exists "$IMAGE" || podman import --quiet "$CACHE/image/debian.tar" "$IMAGE" >/dev/null
}

make_debian_tar() {
  local apt
  need mmdebstrap=mmdebstrap || return 1
  apt=$(private_apt bookworm) || return 1
  apt_transport >"$apt/transport.conf"
  # shellcheck disable=SC2016 # the hook's own $1 is the new root
  mmdebstrap --quiet --variant=minbase --aptopt="$apt/transport.conf" \
    --customize-hook='rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*' \
    bookworm "$1/debian.tar" "$apt/sources.list"
}
