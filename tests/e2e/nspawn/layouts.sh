# shellcheck shell=bash
# Machines that are laid out as other distributions are. What boots there is one program: the probe, which says what it
# finds to the console, and so to the unit's journal.

PROBE="/usr/local/bin/probe cuda nvml whence ${NODES[*]}"
NOT_BOOTED="cuInit 100
nvmlInit_v2 9
libcuda.so.1 from /run/gpuspec/lib/libcuda.so.1
$ALL_NODES"

# starts_with_gpus NAME [ARG…]: once, and its tree afterwards is what it was before. What systemd-nspawn itself puts into a
# tree (a time zone, a journal) is there from a run without us.
starts_with_gpus() {
  once "$1" >/run/told
  grep -x 'open /dev/nvidia0 ENOENT' /run/told
  remember "$1"
  enable "$1" --device nvidia.com/gpu=all "${@:2}"
  once "$1" >/run/told
  answers_of_probe | equal answers "${EXPECTED:-$NOT_BOOTED}" || { cat /run/told; return 1; }
  disable "$1"
  nothing_left "$1"
  untouched "$1"
}

# What else the unit's journal has comes in between.
answers_of_probe() { grep -E '^(cuInit|nvmlInit_v2|libcuda\.so\.1 from|open) ' /run/told; }

fedora_layout() {
  layout fedora "$PROBE"
  starts_with_gpus fedora
}

# Its own libraries stay in the cache, which the host's ldconfig would not have seen to.
fedora_keeps_its_libraries() {
  local cache=$MACHINES/fedora/etc/ld.so.cache
  layout fedora
  remember fedora
  ldconfig -p -C "$cache" | grep '=>' | sort >/run/own
  [ -s /run/own ]
  "$HOOK" nspawn-prepare --machine=fedora --device=nvidia.com/gpu=all
  ldconfig -p -C "$cache" | grep '=>' | sort >/run/listed
  holds 'libcuda.so.1 (libc6,x86-64) => /run/gpuspec/lib/libcuda.so.1' </run/listed
  comm -13 /run/listed /run/own | equal 'entries lost' ''
  "$HOOK" nspawn-cleanup --machine=fedora
  untouched fedora
}

arch_layout() {
  layout arch "$PROBE"
  starts_with_gpus arch
}

nixos_layout() {
  layout nixos "$PROBE"
  EXPECTED=${NOT_BOOTED/run\/gpuspec/run\/opengl-driver} starts_with_gpus nixos
}

musl_layout() {
  # shellcheck disable=SC2016 # expanded inside
  layout musl 'for node in /dev/nvidia0 /dev/nvidiactl; do (: <>$node); done; ls /run/gpuspec/lib'
  once musl >/run/told
  remember musl
  enable musl --device nvidia.com/gpu=all 2>&1 | tee /run/words
  once musl >/run/told
  # The shell's own words for ENXIO.
  grep -c 'No such device or address' /run/told | equal 'nodes that may be opened' 2
  holds libcuda.so.1 </run/told
  cat /run/words /run/told | grep -i musl
  systemctl show --value --property=Result "$(unit musl)" | equal result success
  disable musl
  nothing_left musl
  untouched musl
}

# glibc 2.31: younger than what CUDA needs, older than what some of the distribution's own libraries in the spec do.
bullseye() {
  machine bullseye bullseye
  printf '#!/bin/sh\n%s\nperl -MDynaLoader -e '\''print DynaLoader::dl_load_file("libcuda.so.1", 1) ? "perl: loaded\n" : DynaLoader::dl_error()'\''\n%s\n' \
    "$PROBE" '[ ! -e /run/gpuspec/lib/libnvidia-egl-wayland.so.1 ] || echo egl-wayland is there' >"$MACHINES/bullseye/sbin/init"
  chmod 0755 "$MACHINES/bullseye/sbin/init"
  starts_with_gpus bullseye
  holds 'perl: loaded' </run/told
}

bullseye_is_told_what_it_does_not_get() {
  enable bullseye --device nvidia.com/gpu=all
  once bullseye >/run/told
  grep 'libnvidia-egl-wayland.*glibc 2\.38.*left out' /run/told || { cat /run/told; return 1; }
  lacks 'egl-wayland is there' </run/told
  disable bullseye
}

checks_layouts() {
  apart 'A13: Fedora layout' fedora_layout
  apart 'A13: a Fedora machine keeps its own libraries in the cache' fedora_keeps_its_libraries
  apart 'Arch layout' arch_layout
  apart 'A16: NixOS layout' nixos_layout
  apart 'A15: musl: nodes and files, and a word why not more' musl_layout
  if [ -d "${CACHE:?}/nspawn-bullseye" ]; then
    apart 'A14: glibc 2.31' bullseye
    apart 'A14: glibc 2.31: what is too new is left out, and said' bullseye_is_told_what_it_does_not_get
  else
    skip 'A14: glibc 2.31' 'no archive here has bullseye'
  fi
}
