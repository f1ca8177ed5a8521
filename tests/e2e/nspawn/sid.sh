# shellcheck shell=bash
# A machine newer than its host: booted by the unit of an older systemd. Only where it is asked for, since it needs a root of
# Debian's sid.

newer_machine_has_its_gpus() {
  enable newer --device nvidia.com/gpu=all
  up newer
  in_machine newer systemctl --version | sed -n '1p'
  has_its_gpus newer
}

its_shell_has_them_too() {
  in_shell newer /usr/local/bin/probe cuda nvml "${NODES[@]}" | equal answers "cuInit 100
nvmlInit_v2 9
$ALL_NODES"
  down newer
  nothing_left newer
}

checks_sid() {
  machine newer sid
  check 'a booted machine of sid has driver and devices' newer_machine_has_its_gpus
  check 'a machine of sid: in machinectl shell too' its_shell_has_them_too
  check 'a machine of sid: two boots, with and without us, leave the same' boots_leave_the_same newer sid
}
