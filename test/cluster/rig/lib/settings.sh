# Sourced first by every command: where things are. The environment variables are described in README.md.
# shellcheck shell=bash disable=SC2034
VERSION=v1.20.2 # what build-from-debian builds
RIG=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${KUBE_RIG_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kube-rig}
BIN=$(realpath -m "${KUBE_RIG_BIN:-$CACHE/$VERSION}")
if [ "$(id -u)" = 0 ]; then STATE=/run/kube-rig; else STATE=${TMPDIR:-/tmp}/kube-rig-$(id -u); fi
STATE=$(realpath -m "${KUBE_RIG_STATE:-$STATE}")
PORT_LOCKS=/tmp/kube-rig-ports-$(id -u)

# Node 1 is node-a, as in examples/.
node_name() { echo "node-$(tr 1-9 a-i <<<"$1")"; }

say() { echo "kube-rig: $*" >&2; }
die() { say "$*"; exit 1; }
