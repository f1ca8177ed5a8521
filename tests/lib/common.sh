# shellcheck shell=bash
# The words every script here uses: where the checkout and the cache are, how to speak, fail and keep what was made.

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${LIBGPUSPEC_CACHE:-/var/cache/libgpuspec-tests}
export CHECKOUT CACHE

# All of it goes to stderr: stdout belongs to what a script answers.
say() { printf '%s\n' "== $*" >&2; }
die() {
  printf '%s\n' "${0##*/}: $*" >&2
  exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# The cache may be shared by several checkouts and by several runs at once.
prepare_cache() {
  mkdir -p "$CACHE" 2>/dev/null || true
  [ -w "$CACHE" ] ||
    die "$CACHE: cannot be written; name another folder in LIBGPUSPEC_CACHE"
}

# cached NAME RECIPE MAKE [ARG…]: the folder $CACHE/NAME, made by `MAKE FOLDER ARG…` when it is not there yet, when
# RECIPE (any text) has changed since, or when a file in it has. A folder appears whole or not at all.
cached() {
  local name=$1 recipe=$2 folder=$CACHE/$1 fresh status
  shift 2
  mkdir -p "$(dirname "$folder")"
  exec {lock}>"$CACHE/.lock-${name//\//-}"
  flock "$lock"
  if ! [ -d "$folder" ] || [ "$(cat "$folder.made" 2>/dev/null)" != "$(cache_mark "$folder" "$recipe")" ]; then
    say "making $folder"
    # The third is what an interrupted run left.
    rm -rf --one-file-system "$folder" "$folder.made" "$folder".??????
    fresh=$(mktemp -d "$folder.XXXXXX")
    chmod 0755 "$fresh"
    # Not as a condition: that would switch `set -e` off in all that MAKE does.
    set +e
    (
      set -e
      "$@" "$fresh"
    )
    status=$?
    set -e
    [ "$status" = 0 ] || {
      rm -rf --one-file-system "$fresh"
      die "$folder: could not be made (see above)"
    }
    mv "$fresh" "$folder"
    cache_mark "$folder" "$recipe" >"$folder.made"
  fi
  exec {lock}>&-
}

# What tells a whole folder from a damaged one: every path with its type, size and link text.
cache_mark() {
  printf '%s\n' "$2" | sha256sum
  find "$1" -printf '%P %y %s %l\n' | LC_ALL=C sort | sha256sum
}
