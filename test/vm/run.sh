#!/bin/bash
# Runs a bundled program, such as attach, in the staged folder; its results are in /out/results.json.
staged=$1 program=$2
shift 2
cd "$staged" || exit
cp -r compiled /tmp/compiled
export NODE_COMPILE_CACHE=/tmp/compiled UNDERSTUDY=$staged/bin/understudy.mjs
./node "$program.mjs" "$@" >/out/output 2>&1
status=$?
dmesg >/out/dmesg
exit $status
