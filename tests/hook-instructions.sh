#!/usr/bin/env bash
# Counts the hook's instructions against their budget (tests/hook_instructions.rs), with the hook as it is released.
# Debian 12's valgrind answers ENOSYS to openat2; a newer one is unpacked into the cache and its tool run as it is.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust; do
  # shellcheck source=/dev/null
  . "$here/lib/$part.sh"
done
cd "$CHECKOUT"
SUITE=trixie

unpack_valgrind() {
  local apt
  apt=$(private_apt "$SUITE")
  (
    cd "$apt/archives" || exit
    APT_CONFIG=$apt/apt.conf apt_quietly apt-get download valgrind
  ) || return 1
  dpkg-deb --fsys-tarfile "$apt"/archives/valgrind_*.deb | tar -x -C "$1" --strip-components=4 --wildcards \
    './usr/libexec/valgrind/callgrind-*' './usr/libexec/valgrind/default.supp'
}

counted() {
  local counter hook
  cached valgrind "$SUITE" unpack_valgrind
  counter=$(find "$CACHE/valgrind" -name "callgrind-$(dpkg --print-architecture)-linux")
  [ -n "$counter" ] || die "$CACHE/valgrind: no callgrind for this processor"
  cargo build --quiet --locked --release --package oci-hook
  hook=$(built oci-hook)
  LIBGPUSPEC_COUNTER=$counter LIBGPUSPEC_HOOK=$hook \
    cargo test --quiet --locked --package oci-hook --test hook_instructions -- --nocapture
}

prepare_cache
need_rust
check "the hook's instructions, size and system calls" counted
report
