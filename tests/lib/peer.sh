# shellcheck shell=bash
# A spec in the shape in which nvidia-ctk 1.20 writes them (told from its specs, in our own words): files under their
# full versions alone, and all else by six verbs of nvidia-cdi-hook.

# peer_spec TREE HOOK [DEV]: to standard output. TREE is a driver root, whose devices are those of the simulated host, in
# DEV (/dev); HOOK is called nvidia-cdi-hook.
peer_spec() {
  local tree=$1 hook=$2 dev=${3:-/dev} version lib=usr/lib/x86_64-linux-gnu files folders stems gpus gpu name address
  version=$(find "$tree/$lib" -name 'libcuda.so.*.*' -type f -printf '%f\n' -quit)
  version=${version#libcuda.so.}
  files=$(cd "$tree" && find "$lib" -name "lib*.so.$version" -type f | LC_ALL=C sort)
  folders=$(xargs -n 1 dirname <<<"$files" | LC_ALL=C sort -u)
  stems=$(xargs -n 1 basename --suffix=".$version" <<<"$files")
  printf -- '---\ncdiVersion: 0.5.0\ncontainerEdits:\n  deviceNodes:\n'
  for name in nvidia-modeset nvidia-uvm nvidia-uvm-tools nvidiactl; do peer_node $name; done
  printf '  env:\n  - NVIDIA_CTK_LIBCUDA_DIR=/%s\n' "$(grep /libcuda.so <<<"$files" | xargs dirname)"
  printf '  - NVIDIA_VISIBLE_DEVICES=void\n  hooks:\n'
  peer_hook create-symlinks --link "../libnvidia-allocator.so.1::/$lib/gbm/nvidia-drm_gbm.so"
  # SONAME and .so, where the host has such a link beside the file.
  (cd "$tree" && xargs -I {} find {} -maxdepth 1 -name 'lib*.so*' -type l -lname 'lib*' -printf '%l::/%p %f\n' <<<"$folders") |
    LC_ALL=C sort | while read -r link name; do
    ! grep -qxF "${name%%.so*}.so" <<<"$stems" || printf -- '--link\n%s\n' "$link"
  done | peer_hook create-symlinks -
  peer_hook enable-cuda-compat "--host-driver-version=$version"
  xargs printf -- '--folder\n/%s\n' <<<"$folders" | peer_hook update-ldcache -
  peer_hook disable-device-node-modification
  peer_hook update-application-profile
  printf '  mounts:\n'
  while read -r name; do
    printf '  - containerPath: /%s\n    hostPath: %s/%s\n    options:\n' "$name" "$tree" "$name"
    printf '    - %s\n' ro nosuid nodev rbind rprivate
  done <<<"$files"
  printf 'devices:\n'
  for gpus in 0 1 '0 1'; do
    printf -- '- containerEdits:\n    deviceNodes:\n'
    for gpu in $gpus; do
      for name in "nvidia$gpu" "dri/card$gpu" "dri/renderD$((128 + gpu))"; do peer_node "$name"; done
    done | sed 's/^/  /'
    printf '    hooks:\n'
    for gpu in $gpus; do
      address=${HOST_GPUS[$gpu]%%|*}
      peer_hook create-symlinks --link "../card$gpu::/dev/dri/by-path/pci-$address-card" \
        --link "../renderD$((128 + gpu))::/dev/dri/by-path/pci-$address-render"
    done | sed 's/^/  /'
    [ "$gpus" != '0 1' ] || gpus=all
    printf '  name: "%s"\n' "$gpus"
  done
  echo 'kind: nvidia.com/gpu'
}

# peer_hook WORD…: one hook of it; `-` for further words on standard input, one a line.
peer_hook() {
  local word
  printf '  - args:\n    - nvidia-cdi-hook\n'
  for word; do
    if [ "$word" = - ]; then sed 's/^/    - /'; else printf '    - %s\n' "$word"; fi
  done
  printf '    env:\n    - NVIDIA_CTK_DEBUG=false\n    hookName: createContainer\n    path: %s\n' "$hook"
}

peer_node() {
  printf '  - path: /dev/%s\n' "$1"
  [ "$dev" = /dev ] || printf '    hostPath: %s/%s\n' "$dev" "$1"
}
