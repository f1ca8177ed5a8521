#!/usr/bin/env bash
# All tests, on a machine that has nothing yet: installs what is missing (as root), then runs stage after stage.
# Usage: tests/run.sh [lint|drivers|unit|instructions|podman|nspawn|demo|fuzz]…   (none: all of them), or
#        tests/run.sh consumers|callers|nspawn-257|nspawn-262|longfuzz   (newer engines, newer systemd, hours: only when named)
# The last line counts; the exit status is 0 when nothing failed. What could not run is listed as skipped, with why.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
for part in common report apt rust driver podman; do
  # shellcheck source=/dev/null
  . "$here/lib/$part.sh"
done
cd "$CHECKOUT"

DENY_VERSION=0.20.2
FUZZ_VERSION=0.13.2
export CARGO_TERM_COLOR=never

# ---- stages ------------------------------------------------------------------------------------------------------

# What a reader and a compiler may complain about: nothing.
stage_lint() {
  check 'cargo fmt' cargo fmt --check
  check 'cargo clippy' cargo clippy --quiet --locked --workspace --all-features --all-targets -- -D warnings
  check 'cargo doc' env RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --workspace --no-deps
  check 'cargo deny' deny
  check 'the listing of the public interface changed with a line in the changelog' interface_told
  check 'shellcheck' shell_scripts
}

deny() {
  cargo_tool cargo-deny "$DENY_VERSION"
  "$CACHE/cargo-tools/bin/cargo-deny" --config .cargo/deny.toml check licenses bans sources
}

# The listing itself is held against the sources by tests/api.rs.
interface_told() {
  local listing changelog
  listing=$(git log -1 --format=%H -- docs/api.txt)
  changelog=$(git log -1 --format=%H -- CHANGELOG.md)
  git merge-base --is-ancestor "$listing" "$changelog" ||
    die "docs/api.txt changed in ${listing:0:12}, after CHANGELOG.md's last change in ${changelog:0:12}: tell users of it there"
}

shell_scripts() {
  need shellcheck=shellcheck
  # shellcheck disable=SC2046 # no blanks in our names
  shellcheck --external-sources $(git ls-files '*.sh') .ci/run
}

# What needs neither root nor a network; the lists of the real drivers' files too, once the stage before has run.
stage_unit() {
  need strace=strace || say 'no strace: tests of the hook as the kernel sees it are skipped'
  cargo_tests 'cargo test' --workspace --all-features
}

# The real drivers as driver roots: fetched, unpacked, installed.
stage_drivers() {
  local driver
  for driver in 550 535; do
    check "driver $driver: packages unpacked" driver_root "$driver"
    if is_root; then
      check "driver $driver: packages installed" driver_installed "$driver"
    else
      skip "driver $driver: packages installed" 'needs root'
    fi
  done
}

stage_instructions() {
  if [ -x "$here/hook-instructions.sh" ]; then
    run_script "$here/hook-instructions.sh"
  fi
}

stage_podman() {
  check 'release build' build_programs
  run_script "$here/e2e/podman.sh" 550
  run_script "$here/e2e/podman.sh" 535
  run_script "$here/e2e/hooks.sh" 550
  run_script "$here/e2e/hooks.sh" 535
  run_script "$here/e2e/runtimes.sh" here
}

# Machines of systemd-nspawn on a host of Debian 12 (systemd 252), and, only when asked for, on newer ones.
stage_nspawn() {
  run_script "$here/e2e/nspawn.sh" 252
  if is_root; then
    check 'examples/nspawn/demo.sh shows a GPU in a machine' nspawn_demo
  else
    skip 'examples/nspawn/demo.sh' 'needs root'
  fi
}

nspawn_demo() {
  local said
  # systemd-nspawn gives its command a terminal, whose lines end in CR LF.
  said=$(examples/nspawn/demo.sh 2>&1 | tr -d '\r') || { printf '%s\n' "$said"; return 1; }
  printf '%s\n' "$said"
  # Booted, and by `nspawn run`.
  [ "$(grep -cE '^cuInit (0|100)$' <<<"$said")" = 2 ]
  grep -E 'libcuda.so.1 .*=> /run/gpuspec/lib/libcuda.so.1' <<<"$said"
}

stage_nspawn-257() { run_script "$here/e2e/nspawn.sh" 257; }
# And a machine of sid, the newest, on the oldest host.
stage_nspawn-262() {
  run_script "$here/e2e/nspawn.sh" 262
  run_script "$here/e2e/nspawn.sh" 252 sid
}

# Newer engines, in roots of their own (some 1.7 GB in the cache): only when it is asked for.
stage_consumers() {
  run_script "$here/e2e/consumers.sh" trixie
  run_script "$here/e2e/consumers.sh" sid
}

# Who calls the hooks: newer runtimes, Docker's daemons, an ordinary user's podman. In the same roots, and only when it
# is asked for.
stage_callers() {
  local suite
  for suite in trixie sid; do
    run_script "$here/e2e/runtimes.sh" "$suite"
  done
  for suite in bookworm trixie sid; do
    run_script "$here/e2e/docker.sh" "$suite"
    run_script "$here/e2e/rootless.sh" "$suite"
  done
}

stage_demo() {
  # shellcheck disable=SC2016 # expanded inside
  if is_root; then
    check 'examples/demo.sh shows the main job and touches no spec' in_private_mounts bash -euc '
      echo "not a spec" | tee /etc/cdi/nvidia.com-gpu.yaml >/run/cdi/nvidia.yaml
      "$1/examples/demo.sh" | tee "$ROOM/demo"
      grep -E "^cuInit (0|100)$" "$ROOM/demo"
      grep -E "libcuda.so.1 .*=>" "$ROOM/demo"
      grep -hx "not a spec" /etc/cdi/nvidia.com-gpu.yaml /run/cdi/nvidia.yaml | wc -l | grep -x 2' demo "$CHECKOUT"
  else
    skip 'examples/demo.sh' 'needs root'
  fi
}

# Bytes at random for every parser, FUZZ_SECONDS each (60): no crash, no input that takes over 1 s or 256 MiB.
stage_fuzz() {
  local target
  cargo_tool cargo-fuzz "$FUZZ_VERSION"
  check 'fuzz targets build' fuzz build
  for target in tests/fuzz/fuzz_targets/*.rs; do
    target=$(basename "$target" .rs)
    check "fuzz $target" fuzz_run "$target" &
    # One a processor.
    [ "$(jobs -r | wc -l)" -lt "$(nproc)" ] || wait -n
  done
  wait
}

fuzz() { RUSTC_BOOTSTRAP=1 "$CACHE/cargo-tools/bin/cargo-fuzz" "$1" --fuzz-dir tests/fuzz --sanitizer none "${@:2}"; }

# What it finds is left in tests/fuzz/artifacts; what it has learnt stays in the cache.
fuzz_run() {
  local learnt=$CACHE/fuzz/$1
  mkdir -p "$learnt"
  fuzz run "$1" "$learnt" specs -- -max_total_time="${FUZZ_SECONDS:-60}" -timeout=1 -rss_limit_mb=256 -max_len=65536
}

# What the hook reads of a runtime and of an image: ten million inputs or an hour each, one after another on one
# processor, so that it may run beside other work: an input may then wait a minute. FUZZ_TARGETS names fewer.
stage_longfuzz() {
  local target
  cargo_tool cargo-fuzz "$FUZZ_VERSION"
  check 'fuzz targets build' fuzz build
  for target in ${FUZZ_TARGETS:-hook ldcache elf cuda request config image}; do
    check "fuzz $target, long" fuzz_long "$target"
    sed -n "s/^/         | $target: /p" "$CACHE/fuzz/$target.figures"
  done
}

# Leaves executions, seconds, peak memory (MiB) and the slowest input (s) in $CACHE/fuzz/TARGET.figures.
fuzz_long() {
  local learnt=$CACHE/fuzz/$1 log=$CACHE/fuzz/$1.log seconds=$SECONDS status=0
  mkdir -p "$learnt"
  rm -f "$learnt.figures"
  nice -n 19 bash -c "$(declare -f fuzz)"' && fuzz "$@"' fuzz run "$1" "$learnt" -- -runs="${FUZZ_RUNS:-10000000}" \
    -max_total_time="${FUZZ_SECONDS:-3600}" -timeout=60 -rss_limit_mb=256 -max_len=65536 -print_final_stats=1 \
    >"$log" 2>&1 || status=$?
  sed -n 's/^stat:://p' "$log" | awk -v seconds=$((SECONDS - seconds)) '
    { stat[$1] = $2 }
    END { printf "%d executions, %d s, %d MiB, slowest %d s\n", stat["number_of_executed_units:"], seconds,
      stat["peak_rss_mb:"], stat["slowest_unit_time_sec:"] }' >"$learnt.figures"
  [ "$status" = 0 ] || tail -n 40 "$log"
  return "$status"
}

# ---- how they are run --------------------------------------------------------------------------------------------

# run_script FILE ARG…: one that reports its own checks; only its untimely end is a failure of its own.
run_script() { "$@" || check "${1##*/} ${*:2} went to its end" false; }

# cargo_tests NAME ARG…: each test counts, and a failed one is named.
cargo_tests() {
  local name=$1 log status=0
  log=$(mktemp)
  shift
  cargo test --quiet --locked --no-fail-fast "$@" -- --show-output >"$log" 2>&1 || status=$?
  awk '/^test result:/ { passed += $4 } END { print passed + 0 }' "$log" >"$log.passed"
  record passed "$(cat "$log.passed")" "$name"
  sed -n 's/^skipped: //p' "$log" | sort -u | while read -r why; do skip "$name" "$why"; done
  if [ "$status" = 0 ]; then
    printf 'ok       %s (%s tests)\n' "$name" "$(cat "$log.passed")"
  else
    printf 'FAILED   %s (exit %s)\n' "$name" "$status"
    # A compiler's words, or what the failed tests said; not what the others did.
    awk '/^successes:$/ { good = 1 } /^failures:$|^test result:|^error/ { good = 0 } !good' "$log" | sed -n '1,400s/^/         | /p'
    awk '/^failures:$/ { bad = 1 } /^successes:$|^test result:/ { bad = 0 } bad && /^    [^ ]+$/ { print $1 }' "$log" |
      sort -u | while read -r test; do record failed 1 "$name: $test"; done
    grep -q "^failed 1 $name: " "$RESULTS" || record failed 1 "$name (exit $status)"
  fi
  rm -f "$log" "$log.passed"
}

main() {
  local stage
  prepare_cache
  need_rust
  [ $# -gt 0 ] || set -- lint drivers unit instructions podman nspawn demo fuzz
  for stage in "$@"; do
    case $stage in
      lint | drivers | unit | instructions | podman | nspawn | nspawn-257 | nspawn-262 | consumers | callers | demo | fuzz | longfuzz) ;;
      *) die "$stage: not a stage; see the head of tests/run.sh" ;;
    esac
    say "stage $stage"
    "stage_$stage"
  done
  report
}
main "$@"
