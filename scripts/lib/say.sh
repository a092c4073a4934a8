# shellcheck shell=bash
# One line a step, so that a reader of the output sees what is done and why.

say() { printf '==> %s\n' "$*"; }

note() { printf '    %s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
