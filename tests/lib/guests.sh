# shellcheck shell=bash
# Roots for the nspawn tests, all made of Debian's packages: whole suites, which serve as hosts and as guests, and small
# trees that are laid out as other distributions are. Everything of them is in the cache; nothing is built from source.
#
#   $CACHE/nspawn-SUITE            a bootable root: systemd, its nspawn and machined, D-Bus (bullseye: the base alone)
#   $CACHE/nspawn-layouts/NAME           fedora, arch, nixos, musl: the probe, a static busybox, a C library where theirs is

# machine_root SUITE: makes sure of $CACHE/nspawn-SUITE.
machine_root() { cached "nspawn-$1" "$(machine_packages "$1") 1" make_machine_root "$1"; }

machine_packages() {
  case $1 in
    bullseye) ;;
    *) echo systemd-sysv,systemd-container,dbus,libpam-systemd ;;
  esac
}

make_machine_root() {
  local apt packages
  need mmdebstrap=mmdebstrap || return 1
  apt=$(private_apt "$1") || return 1
  apt_transport >"$apt/transport.conf"
  packages=$(machine_packages "$1")
  # shellcheck disable=SC2016 # the hook's own $1 is the new root
  mmdebstrap --quiet --variant=minbase --aptopt="$apt/transport.conf" --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' ${packages:+--include="$packages"} \
    --customize-hook='echo "root:*:1::::::" >"$1/etc/shadow"; : >"$1/etc/machine-id"' "$1" "$2" "$apt/sources.list"
}

# layouts: makes sure of $CACHE/nspawn-layouts. The glibc in them is Debian's for i386 hosts, made to look for its libraries in
# /lib64 and /usr/lib64, as Fedora's does.
layouts() { cached nspawn-layouts "$(cat "$LAYOUTS_PROBE"* "${BASH_SOURCE[0]}" | sha256sum)" make_layouts; }

LAYOUTS_PROBE=$CHECKOUT/tests/e2e/probe

make_layouts() {
  local apt foreign debs=$1/debs
  apt=$(private_apt bookworm) || return 1
  foreign=$(private_apt bookworm i386) || return 1
  mkdir "$debs"
  (
    cd "$debs" || exit
    APT_CONFIG=$apt/apt.conf apt_quietly apt-get download busybox-static musl &&
      APT_CONFIG=$foreign/apt.conf apt_quietly apt-get download libc6-amd64
  ) || return 1
  for deb in "$debs"/*.deb; do
    dpkg-deb --extract "$deb" "$debs/$(basename "${deb%%_*}")" || return 1
  done
  layout_fedora "$debs" "$1/fedora"
  layout_arch "$debs" "$1/arch"
  layout_nixos "$debs" "$1/nixos"
  layout_musl "$debs" "$1/musl"
  rm -rf "$debs"
}

# layout DEBS ROOT ID: what all of them have.
layout() {
  mkdir -p "$2"/{etc,usr/bin,usr/sbin,usr/lib,usr/local/bin,proc,sys,dev,run,tmp,var,root}
  echo 0123456789abcdef0123456789abcdef >"$2/etc/machine-id"
  ln -s usr/bin "$2/bin"
  printf 'ID=%s\nNAME=%s\nVERSION_ID=1\n' "$3" "$3" >"$2/etc/os-release"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$2/etc/passwd"
  printf 'root:x:0:\nvideo:x:39:\nrender:x:105:\n' >"$2/etc/group"
  install -m 0755 "$(find "$1/busybox-static" -path '*/bin/busybox' -type f)" "$2/usr/bin/busybox"
  for applet in sh cat ls env grep sha256sum sleep true head stat find; do
    ln -s busybox "$2/usr/bin/$applet"
  done
}

# glibc DEBS DIRECTORY: its libraries there.
glibc() {
  mkdir -p "$2"
  find "$1/libc6-amd64" \( -type f -o -type l \) -name '*.so*' -not -path '*/gconv/*' -exec cp -P -t "$2" {} +
}

# The machine's ldconfig, told where this root's libraries are: its own built-in places are another distribution's.
layout_cache() {
  printf '%s\n' "$2" >"$1/etc/ld.so.conf"
  ldconfig -X -r "$1"
  mkdir -p "$1/etc/ld.so.conf.d"
  printf 'include ld.so.conf.d/*.conf\n' >"$1/etc/ld.so.conf"
}

layout_fedora() {
  layout "$1" "$2" fedora
  glibc "$1" "$2/usr/lib64"
  ln -s usr/lib64 "$2/lib64"
  ln -s usr/lib "$2/lib"
  build_probe "$2/usr/local/bin/probe"
  layout_cache "$2" /usr/lib64
}

layout_arch() {
  layout "$1" "$2" arch
  glibc "$1" "$2/usr/lib"
  ln -s usr/lib "$2/lib"
  ln -s usr/lib "$2/lib64"
  ln -s lib "$2/usr/lib64"
  build_probe "$2/usr/local/bin/probe"
  layout_cache "$2" /usr/lib
}

# No library outside the store, no cache; programs find the driver by the search path they were linked with. The driver's
# own needs are loaded before it: a real store's loader would look for them beside itself, which this one does not.
layout_nixos() {
  local store=/nix/store/00000000000000000000000000000000-glibc-2.41/lib
  layout "$1" "$2" nixos
  glibc "$1" "$2$store"
  build_probe "$2/usr/local/bin/probe" "-Wl,--dynamic-linker=$store/ld-linux-x86-64.so.2" \
    "-Wl,--enable-new-dtags,-rpath,/run/opengl-driver/lib:$store" \
    "$(cc -print-file-name=libm.so.6)" "$(cc -print-file-name=libpthread.so.0)" "$(cc -print-file-name=librt.so.1)"
  printf 'render:x:303:\nvideo:x:26:\nroot:x:0:\n' >"$2/etc/group"
}

# The C library alone: no program of ours is made for it.
layout_musl() {
  layout "$1" "$2" alpine
  ln -s usr/lib "$2/lib"
  cp -rPT "$1/musl/lib" "$2/usr/lib"
}

# build_probe FILE ARG…: the probe, for any glibc since 2.4 on x86-64, whatever the compiler's own.
build_probe() {
  local loader_library
  need cc=gcc || return 1
  loader_library=$(cc -print-file-name=libdl.so.2)
  cc -O2 -DOLD_GLIBC -nostartfiles -o "$1" "$LAYOUTS_PROBE.c" "$LAYOUTS_PROBE-start.c" -Wl,--no-as-needed "$loader_library" "${@:2}"
}
