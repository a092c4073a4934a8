# shellcheck shell=bash
# Runs checks and test suites one after the other, goes on after a failure, and adds up what became of them.

passed=0
failed=0
skipped=0
failures=()
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# check NAME COMMAND...: a check counts as one test.
check() {
  local name=$1
  shift
  say "Check: $name"
  if "$@" >"$results/check.log" 2>&1; then
    passed=$((passed + 1))
  else
    cat "$results/check.log"
    failed=$((failed + 1))
    failures+=("check: $name")
  fi
}

# leave_out NAME REASON: what cannot run here counts as one skipped test.
leave_out() {
  say "Left out: $1 ($2)"
  skipped=$((skipped + 1))
}

# suite NAME COMMAND...: COMMAND writes vitest's JSON report to the file named by $VITEST_JSON.
suite() {
  local name=$1 status=0 report
  shift
  say "Suite: $name"
  export VITEST_JSON="$results/${name//[^a-z0-9]/-}.json"
  "$@" || status=$?
  report=$(node scripts/lib/count-results.ts "$VITEST_JSON" "$status")
  read -r suite_passed suite_failed suite_skipped <<<"$report"
  passed=$((passed + suite_passed))
  failed=$((failed + suite_failed))
  skipped=$((skipped + suite_skipped))
  ((suite_failed == 0)) || failures+=("suite: $name"$'\n'"$(tail -n +2 <<<"$report")")
}

# Prints what failed, then the one closing line: with success only if something ran and nothing failed. With
# UNDERSTUDY_TOTALS, both go to the file of that name too.
finish() {
  say "Finished after $((SECONDS / 60)) min $((SECONDS % 60)) s"
  if [[ -n ${UNDERSTUDY_TOTALS:-} ]]; then
    printf '%d %d %d\n' "$passed" "$failed" "$skipped" >"$UNDERSTUDY_TOTALS"
    ((${#failures[@]} == 0)) || printf '%s\n' "${failures[@]}" >>"$UNDERSTUDY_TOTALS"
  fi
  report
}

report() {
  local failure
  for failure in "${failures[@]}"; do note "failed: $failure"; done
  printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  ((failed == 0 && passed > 0))
}

# together SCRIPT...: runs scripts that end with finish, one after the other whatever becomes of them, and prints what failed
# and the one closing line of all. A script that ended without one counts as a failed test.
together() {
  local script totals=$results/totals counts
  for script; do
    rm -f "$totals"
    UNDERSTUDY_TOTALS=$totals "$script" || true
    counts='0 1 0'
    if [[ -s $totals ]]; then
      counts=$(head -n 1 "$totals")
      [[ $counts == *' 0 '* ]] || failures+=("$script"$'\n'"$(tail -n +2 "$totals")")
    else
      failures+=("$script ended before it was finished")
    fi
    read -r script_passed script_failed script_skipped <<<"$counts"
    passed=$((passed + script_passed))
    failed=$((failed + script_failed))
    skipped=$((skipped + script_skipped))
  done
  report
}
