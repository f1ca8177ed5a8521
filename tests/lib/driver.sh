# shellcheck shell=bash
# Real NVIDIA drivers out of Debian's packages, as trees to use as driver roots. Nothing of them is ever committed.
#
#   $CACHE/driver-550/root        the packages of trixie (550.163.01), unpacked, no maintainer script run
#   $CACHE/driver-550/installed   a trixie root with the same packages installed, alternatives and loader cache set up
#   $CACHE/driver-535/root        the same of bookworm (535.261.03)
#   $CACHE/driver-535/installed

driver_suite() {
  case $1 in
    535) echo bookworm ;;
    550) echo trixie ;;
    *) die "driver $1: Debian packages 535 and 550" ;;
  esac
}

# The driver's own sources in Debian, less what serves only the kernel, the choice of a driver, or developers.
DRIVER_SOURCES='^(nvidia-graphics-drivers|nvidia-(persistenced|modprobe|settings|xconfig|egl-gbm)|egl-(wayland|gbm|x11)|glx-alternatives)$'
DRIVER_LESS='kernel|-dev$|^nvidia-(driver|driver-full|driver-libs|detect|legacy-check|libopencl1|suspend-common)$|-mesa$'

# driver_packages APT: their names, one a line.
driver_packages() {
  APT_CONFIG=$1/apt.conf apt-cache dumpavail | awk -v sources="$DRIVER_SOURCES" -v less="$DRIVER_LESS" '
    /^Package:/ { package = source = $2 }
    /^Source:/ { source = $2 }
    /^$/ && source ~ sources && package !~ less { print package }' | sort -u
}

# driver_root N: makes sure of $CACHE/driver-N/root.
driver_root() { cached "driver-$1/root" "$DRIVER_SOURCES $DRIVER_LESS 1" unpack_driver "$1"; }

# driver_installed N: makes sure of $CACHE/driver-N/installed.
driver_installed() { cached "driver-$1/installed" "$DRIVER_SOURCES $DRIVER_LESS 1" install_driver "$1"; }

# driver_version N: what the kernel module of driver N would say. Either tree must be there.
driver_version() {
  local library
  library=$(find "$CACHE/driver-$1/" -path '*/usr/lib/*' -name 'libcuda.so.*.*' -type f -print -quit)
  [ -n "$library" ] || die "$CACHE/driver-$1: no libcuda there"
  printf '%s\n' "${library##*libcuda.so.}"
}

# download_driver SUITE: the folder with the packages' files; apt fetches only what is not there, and checks all.
download_driver() {
  local apt
  apt=$(private_apt "$1") || return 1
  driver_packages "$apt" >"$apt/packages"
  [ -s "$apt/packages" ] || die "$1: no driver packages in non-free"
  (
    cd "$apt/archives" || exit
    export APT_CONFIG=$apt/apt.conf
    # shellcheck disable=SC2046 # one word a package
    apt_quietly apt-get download $(cat "$apt/packages") && apt_quietly apt-get autoclean
  ) || return 1
  printf '%s\n' "$apt"
}

unpack_driver() {
  local apt package
  apt=$(download_driver "$(driver_suite "$1")") || return 1
  while read -r package; do
    for deb in "$apt/archives/${package}"_*.deb; do
      dpkg-deb --extract "$deb" "$2" || return 1
    done
  done <"$apt/packages"
}

install_driver() {
  local apt suite
  need mmdebstrap=mmdebstrap || return 1
  suite=$(driver_suite "$1")
  apt=$(download_driver "$suite") || return 1
  apt_transport >"$apt/transport.conf"
  # shellcheck disable=SC2016 # the hook's own $1 is the new root
  mmdebstrap --quiet --variant=minbase --aptopt="$apt/transport.conf" --include="$(paste -sd, "$apt/packages")" \
    --setup-hook="mkdir -p \"\$1/var/cache/apt/archives\" && cp '$apt/archives/'*.deb \"\$1/var/cache/apt/archives/\"" \
    --skip=essential/unlink --customize-hook='rm -f "$1"/var/cache/apt/archives/*.deb; chroot "$1" ldconfig' \
    "$suite" "$2" "$apt/sources.list"
}
