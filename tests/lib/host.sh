# shellcheck shell=bash
# A host with two NVIDIA GPUs that are not there: device nodes by mknod, /proc and /sys as the kernel prints them.
#
# Opening /dev/nvidia0 of such a host answers ENXIO (no driver behind the number) where the device cgroup lets one
# through, and EPERM where it does not: so a test tells a device that was granted from one that is merely visible.

# The two GPUs: PCI address, model, UUID, device id, class, video BIOS, interrupt.
HOST_GPUS=(
  '0000:01:00.0|NVIDIA RTX A4000|GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b|0x24b0|0x030000|94.04.57.00.0B|136'
  '0000:41:00.0|NVIDIA A10|GPU-0aa51f19-3a0c-7c9e-5b3e-d6f0b9e4c377|0x2236|0x030200|94.02.75.00.01|152'
)

# simulated_host DIR VERSION: fills DIR/{dev,proc,sys}. Needs CAP_MKNOD.
simulated_host() {
  local dir=$1 version=$2 index=0 gpu
  mkdir -p "$dir"/dev/dri/by-path "$dir"/proc/driver/nvidia "$dir"/sys/module/nvidia{,_drm/parameters,_uvm,_modeset}
  printf '%s\n' "$version" >"$dir/sys/module/nvidia/version"
  printf 'Y\n' >"$dir/sys/module/nvidia_drm/parameters/modeset"
  host_proc "$dir/proc" "$version"
  host_node "$dir/dev/nvidiactl" 195 255 0666
  host_node "$dir/dev/nvidia-modeset" 195 254 0666
  host_node "$dir/dev/nvidia-uvm" 511 0 0666
  host_node "$dir/dev/nvidia-uvm-tools" 511 1 0666
  for gpu in "${HOST_GPUS[@]}"; do
    host_gpu "$dir" "$version" "$index" "$gpu"
    index=$((index + 1))
  done
}

# simulated_root DIR DRIVER: a whole host root of it, with driver DRIVER installed. For private mounts only.
simulated_root() {
  local part version
  version=$(driver_version "$2")
  mkdir "$1"
  mount --bind "$CACHE/driver-$2/installed" "$1"
  mount -o remount,bind,ro "$1"
  for part in dev proc sys; do
    mount -t tmpfs -o mode=0755 tmpfs "$1/$part"
  done
  simulated_host "$1" "$version"
}

host_node() { mknod -m "$4" "$1" c "$2" "$3"; }

host_proc() {
  mkdir -p "$1/driver/nvidia/gpus" "$1/driver/nvidia/capabilities/mig"
  cat >"$1/driver/nvidia/version" <<TEXT
NVRM version: NVIDIA UNIX x86_64 Kernel Module  $2  Tue Apr  8 12:41:17 UTC 2025
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1) 
TEXT
  cat >"$1/driver/nvidia/params" <<'TEXT'
ResmanDebugLevel: 4294967295
RmLogonRC: 1
ModifyDeviceFiles: 1
DeviceFileUID: 0
DeviceFileGID: 0
DeviceFileMode: 438
InitializeSystemMemoryAllocations: 1
UsePageAttributeTable: 4294967295
EnableMSI: 1
EnablePCIeGen3: 0
MemoryPoolSize: 0
DynamicPowerManagement: 3
EnableGpuFirmware: 18
EnableResizableBar: 0
ImexChannelCount: 0
CreateImexChannel0: 0
RegistryDwords: ""
RegistryDwordsPerDevice: ""
RmMsg: ""
GpuBlacklist: ""
TemporaryFilePath: ""
ExcludedGpus: ""
TEXT
  printf 'DeviceFileMinor: 1\nDeviceFileMode: 256\nDeviceFileModify: 1\n' >"$1/driver/nvidia/capabilities/mig/config"
  printf 'DeviceFileMinor: 2\nDeviceFileMode: 292\nDeviceFileModify: 1\n' >"$1/driver/nvidia/capabilities/mig/monitor"
  cat >"$1/devices" <<'TEXT'
Character devices:
  1 mem
  4 /dev/vc/0
  4 tty
  5 /dev/tty
  5 /dev/console
  5 /dev/ptmx
 10 misc
 13 input
 29 fb
195 nvidia
195 nvidia-modeset
195 nvidiactl
226 drm
511 nvidia-uvm

Block devices:
  8 sd
259 blkext
TEXT
}

# host_gpu DIR VERSION INDEX DESCRIPTION: one GPU, its minor number being its index.
host_gpu() {
  local dir=$1 version=$2 index=$3 address model uuid device class bios irq bridge pci
  IFS='|' read -r address model uuid device class bios irq <<<"$4"
  host_node "$dir/dev/nvidia$index" 195 "$index" 0666
  mkdir -p "$dir/proc/driver/nvidia/gpus/$address" "$dir/proc/driver/nvidia/capabilities/gpu$index/mig"
  {
    printf 'Model: \t\t %s\nIRQ:   \t\t %s\nGPU UUID: \t %s\nVideo BIOS: \t %s\nBus Type: \t PCIe\n' \
      "$model" "$irq" "$uuid" "$bios"
    printf 'DMA Size: \t 47 bits\nDMA Mask: \t 0x7fffffffffff\nBus Location: \t %s\nDevice Minor: \t %s\n' \
      "$address" "$index"
    printf 'GPU Firmware: \t %s\nGPU Excluded:\t No\n' "$version"
  } >"$dir/proc/driver/nvidia/gpus/$address/information"

  bridge=$(printf '0000:00:%02x.0' $((index + 1)))
  pci=devices/pci0000:00/$bridge/$address
  mkdir -p "$dir/sys/$pci/drm" "$dir/sys/bus/pci/devices" "$dir/sys/bus/pci/drivers/nvidia"
  printf '0x10de\n' >"$dir/sys/$pci/vendor"
  printf '%s\n' "$device" >"$dir/sys/$pci/device"
  printf '%s\n' "$class" >"$dir/sys/$pci/class"
  printf -- '-1\n' >"$dir/sys/$pci/numa_node"
  printf 'DRIVER=nvidia\nPCI_CLASS=%X\nPCI_ID=10DE:%s\nPCI_SLOT_NAME=%s\n' $((class)) "$(tr a-f A-F <<<"${device#0x}")" "$address" \
    >"$dir/sys/$pci/uevent"
  ln -s "../../../$pci" "$dir/sys/bus/pci/devices/$address"
  ln -s "../../../../$pci" "$dir/sys/bus/pci/drivers/nvidia/$address"
  ln -s ../../../../bus/pci/drivers/nvidia "$dir/sys/$pci/driver"
  host_drm "$dir" "$pci" "$address" card "$index" "$index"
  host_drm "$dir" "$pci" "$address" render "D$((index + 128))" $((index + 128))
}

# host_drm DIR PCI ADDRESS card|render SUFFIX MINOR: one DRM node, as sysfs and /dev show it.
host_drm() {
  local name=$4$5
  mkdir "$1/sys/$2/drm/$name"
  printf '226:%s\n' "$6" >"$1/sys/$2/drm/$name/dev"
  printf 'MAJOR=226\nMINOR=%s\nDEVNAME=dri/%s\nDEVTYPE=drm_minor\n' "$6" "$name" >"$1/sys/$2/drm/$name/uevent"
  host_node "$1/dev/dri/$name" 226 "$6" 0660
  ln -s "../$name" "$1/dev/dri/by-path/pci-$3-$4"
}

# private_dev: /dev of these (private) mounts, with the nodes of the simulated host of $ROOM/host among the machine's:
# for who looks for them there and nowhere else.
private_dev() {
  local dev=$ROOM/dev name
  mkdir "$dev"
  mount -t tmpfs -o mode=0755 dev "$dev"
  for name in null zero full random urandom tty fuse fd stdin stdout stderr; do
    [ ! -e "/dev/$name" ] || cp --archive "/dev/$name" "$dev"
  done
  cp --archive "$ROOM/host/dev/." "$dev"
  for name in pts shm mqueue; do
    mkdir "$dev/$name"
    [ ! -d "/dev/$name" ] || mount --rbind "/dev/$name" "$dev/$name"
  done
  ln -s pts/ptmx "$dev/ptmx"
  mount --move "$dev" /dev
  rmdir "$dev"
}
