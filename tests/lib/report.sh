# shellcheck shell=bash
# Checks that name themselves, and the count of them: one line a check, its output only when it failed.

# The counts outlive the process that made them: stages run in processes of their own.
[ -n "${RESULTS:-}" ] || {
  RESULTS=$(mktemp)
  REPORTER=$$
}
export RESULTS

# check NAME COMMAND…: runs COMMAND (a function too) in a subshell under `set -e`.
check() {
  local name=$1 log seconds=$SECONDS
  shift
  log=$(mktemp)
  # Not as a condition: that would switch `set -e` off inside.
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1 </dev/null
  local status=$?
  set -e
  if [ $status = 0 ]; then
    printf 'ok       %s (%ss)\n' "$name" $((SECONDS - seconds))
    record passed 1 "$name"
  else
    printf 'FAILED   %s (exit %s)\n' "$name" "$status"
    tail -n "${LOG_LINES:-60}" "$log" | sed 's/^/         | /'
    record failed 1 "$name"
  fi
  rm -f "$log"
  return 0
}

# skip NAME WHY: loud, for a check that cannot run here is no check that passed.
skip() {
  printf 'SKIPPED  %s: %s\n' "$1" "$2"
  record skipped 1 "$1: $2"
}

record() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$RESULTS"; }

# summary: what failed and what was skipped by name, then the counts. Fails when a check did.
summary() {
  grep -E '^(failed|skipped) ' "$RESULTS" | sed 's/^\([a-z]*\) [0-9]* /\1: /' || true
  awk '{ n[$1] += $2 } END { printf "%d passed, %d failed, %d skipped\n", n["passed"], n["failed"], n["skipped"]
    exit n["failed"] > 0 || n["passed"] == 0 }' "$RESULTS"
}

# report: the summary, from the process that began the counting.
report() { [ "${REPORTER:-}" != $$ ] || summary; }
