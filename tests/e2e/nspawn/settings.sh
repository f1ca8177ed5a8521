# shellcheck shell=bash
# Settings that a machine has already: the user's keep their effect and their bytes, an image's own become no more trusted.

OWN=/etc/systemd/nspawn/guest.nspawn
BESIDE=$MACHINES/guest.nspawn

own_settings() {
  mkdir -p /etc/systemd/nspawn /srv/shared
  echo shared >/srv/shared/file
  # Without a line end, with a comment, and with keys of both sections.
  printf '# mine\n[Exec]\nEnvironment=SYSTEMD_LOG_LEVEL=info\nHostname=renamed\n\n[Files]\nBindReadOnly=/srv/shared:/mnt/shared' >"$OWN"
}

own_settings_and_ours_hold() {
  up guest
  in_machine guest cat /mnt/shared/file | equal file shared
  in_machine guest uname -n | equal hostname renamed
  in_machine guest probe cuda /dev/nvidia0 | equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO'
  in_machine guest env | holds NVIDIA_VISIBLE_DEVICES=void
}

marked_block_comes_and_goes() {
  own_settings
  cp -p "$OWN" /run/own
  stat -c '%a %U %y' "$OWN" >/run/own.stat
  enable guest --device nvidia.com/gpu=all
  cmp /run/own "$OWN"
  own_settings_and_ours_hold
  head -c "$(stat -c %s /run/own)" "$OWN" | cmp - /run/own
  down guest
  cmp /run/own "$OWN"
  disable guest
  cmp /run/own "$OWN"
  stat -c '%a %U %y' "$OWN" | cmp - /run/own.stat
  nothing_left guest
}

# Who changes the file while the machine runs keeps the change.
edited_meanwhile() {
  own_settings
  enable guest --device nvidia.com/gpu=all
  up guest
  sed -i 's/^# mine$/# still mine/' "$OWN"
  down guest
  { sed 's/^# mine$/# still mine/' /run/own; } | cmp - "$OWN" || { cat "$OWN"; return 1; }
  disable guest
}

no_touch_means_no_byte() {
  own_settings
  enable guest --device nvidia.com/gpu=all --no-touch
  up guest
  cmp /run/own "$OWN"
  own_settings_and_ours_hold
  down guest
  disable guest
  cmp /run/own "$OWN"
  nothing_left guest
}

# An image that brings settings wants the host's /etc and all capabilities. Alone it gets neither; nor with us.
untrusted_settings_stay_untrusted() {
  printf '[Exec]\nCapability=all\nHostname=beside\n[Files]\nBind=/etc:/media\nBind=/dev/nvidia1\n[Network]\nPrivate=no\n' >"$BESIDE"
  enable guest --device nvidia.com/gpu=0
  up guest
  in_machine guest ls /media | equal /media ''
  in_machine guest probe cuda /dev/nvidia0 /dev/nvidia1 |
    equal answers $'cuInit 100\nopen /dev/nvidia0 ENXIO\nopen /dev/nvidia1 ENOENT'
  # cap_sys_module, which nspawn gives nobody who does not ask.
  (($((16#$(in_machine guest sed -n 's/^CapBnd:\s*//p' /proc/self/status) >> 16 & 1)) == 0))
  # What an untrusted file may say still holds.
  in_machine guest uname -n | equal hostname beside
  down guest
  disable guest
  nothing_left guest
}

# A command line of the user's own without a user namespace: a node that were mapped into one would keep it from starting.
own_command_line() {
  local dropins
  dropins="/etc/systemd/system/$(unit guest).d"
  mkdir -p "$dropins"
  printf '[Service]\nExecStart=\nExecStart=systemd-nspawn --quiet --keep-unit --boot --network-veth --settings=override --machine=%%i\n' \
    >"$dropins/60-own.conf"
  enable guest --device nvidia.com/gpu=all
  says 0 'enabled' cdi-gen nspawn status guest
  up guest
  in_machine guest cat /proc/self/uid_map | awk '{ print $2 }' | equal shift 0
  in_machine guest ls -n /dev/dri/renderD128 | awk '{ print $1, $3, $4 }' | equal owner 'crw-rw---- 0 991'
  in_machine guest probe cuda /dev/dri/renderD128 | equal answers $'cuInit 100\nopen /dev/dri/renderD128 ENXIO'
  down guest
  nothing_left guest
  rm "$dropins/60-own.conf"
  says 5 'starts it otherwise' cdi-gen nspawn status guest
  disable guest
}

checks_settings() {
  machine guest trixie
  apart 'A17: own settings hold beside ours, and get their bytes back' marked_block_comes_and_goes
  apart 'A17: own settings that were edited meanwhile stay so' edited_meanwhile
  apart 'A17: --no-touch changes no byte of them' no_touch_means_no_byte
  apart 'enable reads the command line of the unit' own_command_line
  apart 'A18: settings beside an image become no more trusted' untrusted_settings_stay_untrusted
}
