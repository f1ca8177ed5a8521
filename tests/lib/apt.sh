# shellcheck shell=bash
# Packages: those the scripts themselves need, and those of another suite, looked up beside the system's own apt.

# need COMMAND=PACKAGE…: installs the packages whose commands are missing.
need() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# install_packages PACKAGE…: answers 1, with a word why, when it may not or cannot.
install_packages() {
  if ! is_root || ! command -v apt-get >/dev/null; then
    say "missing, and not installed by a plain user or without apt: $*"
    return 1
  fi
  say "installing $*"
  apt_quietly apt-get update &&
    DEBIAN_FRONTEND=noninteractive apt_quietly apt-get install --yes --no-install-recommends "$@"
}

# apt talks much; all of it is of interest only when it fails.
apt_quietly() {
  local log
  log=$(mktemp)
  "$@" >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    rm -f "$log"
    return 1
  }
  rm -f "$log"
}

# The archives this machine's apt is configured for, whatever the form of its sources.
apt_archives() {
  [ -z "${LIBGPUSPEC_MIRROR:-}" ] || {
    printf '%s\n' "$LIBGPUSPEC_MIRROR"
    return
  }
  # shellcheck disable=SC2016 # the dollars are apt's
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk '$1 !~ /^cdrom:/ && $2 !~ /-(security|updates|backports|proposed.*)$/ && !seen[$1]++ { print $1 }'
}

# The keys that apt trusts for them. Debian's own come last: a private mirror may sign with others.
apt_keys() {
  {
    sed -nE 's/^Signed-By:[[:space:]]*(\/.*)$/\1/ip; s/.*signed-by=(\/[^] ]*).*/\1/ip' \
      /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null | tr -s '[:blank:],' '\n'
    ls /etc/apt/trusted.gpg.d/*.gpg /etc/apt/trusted.gpg.d/*.asc /usr/share/keyrings/debian-archive-keyring.* 2>/dev/null
  } | while read -r key; do [ -r "$key" ] && printf '%s\n' "$key"; done | sort -u | paste -sd,
}

# What the machine's apt needs to reach its archives (proxies, retries, clocks that are off), for other roots' apt.
apt_transport() { apt-config dump | grep -E '^Acquire::(https?|ftp|Check|Max|Retries|Force|Queue)' || true; }

# private_apt SUITE [ARCHITECTURE]: the folder of an apt that knows only SUITE of the machine's own archive, with all its
# components. The system's sources, lists and cache stay as they are.
private_apt() {
  local suite=$1 folder=$CACHE/apt-$1${2:+-$2} architecture=${2:-$(dpkg --print-architecture)} archive firmware=non-free-firmware
  # A component that older suites do not have.
  [ "$suite" != bullseye ] || firmware=
  mkdir -p "$folder"/{lists,archives}/partial
  : >>"$folder/status"
  cat >"$folder/apt.conf" <<CONF
Dir::State "$folder";
Dir::State::lists "$folder/lists";
Dir::State::status "$folder/status";
Dir::Cache "$folder";
Dir::Cache::archives "$folder/archives";
Dir::Etc::sourcelist "$folder/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
CONF
  for archive in $(apt_archives); do
    printf 'deb [signed-by=%s] %s %s main contrib non-free %s\n' "$(apt_keys)" "$archive" "$suite" "$firmware" \
      >"$folder/sources.list"
    if APT_CONFIG=$folder/apt.conf apt-get update -o APT::Update::Error-Mode=any >"$folder/log" 2>&1; then
      printf '%s\n' "$folder"
      return
    fi
  done
  cat "$folder/log" >&2
  die "$suite with non-free: in none of this machine's archives; name a Debian mirror in LIBGPUSPEC_MIRROR"
}
