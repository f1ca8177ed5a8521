# shellcheck shell=bash
# OCI bundles that systemd-nspawn starts, with devices.

# bundle_of LINUX: what the program of a bundle whose config says this of Linux finds, in /run/answers.
bundle_of() {
  rm -rf /run/bundle /run/given
  mkdir -p /run/bundle
  layout fedora
  cp -a "$MACHINES/fedora" /run/bundle/rootfs
  # Not the host's number: its node will not do.
  sed -i 's/^render:.*/render:x:991:/' /run/bundle/rootfs/etc/group
  cat >/run/bundle/config.json <<JSON
{ "ociVersion": "1.0.2", "root": { "path": "rootfs" }, "linux": $1,
  "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 },
    "args": ["/usr/local/bin/probe", "cuda", "/dev/nvidia0", "/dev/nvidia1", "/dev/dri/renderD128"] } }
JSON
}

# serves: the bundle is given the devices, and nothing is left of it.
serves() {
  cdi-gen nspawn bundle --device nvidia.com/gpu=all /run/bundle /run/given
  systemd-nspawn --quiet --oci-bundle=/run/given </dev/null >/run/answers 2>/run/errors || true
  tr -d '\r' </run/answers |
    equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENXIO\nopen /dev/dri/renderD128 ENXIO' ||
    { cat /run/given/config.json /run/errors; return 1; }
  lacks 'Invalid bind mount option' </run/errors
  cdi-gen nspawn bundle --remove /run/given
  new_mounts | equal mounts ''
  [ ! -e /run/given ]
}

bundle() {
  bundle_of '{}'
  serves
}

bundle_with_a_user_namespace() {
  local ids='[{ "containerID": 0, "hostID": 200000, "size": 65536 }]' kinds='{ "type": "user" }' kind
  # All that systemd-nspawn sets up by itself: it mounts a /proc of its own, for one.
  for kind in mount pid ipc uts; do kinds+=", { \"type\": \"$kind\" }"; done
  bundle_of "{ \"namespaces\": [$kinds], \"uidMappings\": $ids, \"gidMappings\": $ids }"
  chown -R 200000:200000 /run/bundle/rootfs
  serves
}

checks_bundles() {
  apart 'A24: a bundle' bundle
  apart 'A24: a bundle with a user namespace' bundle_with_a_user_namespace
}
