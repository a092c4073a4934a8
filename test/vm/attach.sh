#!/bin/bash
# Runs the bundled attach.ts in the staged folder that is given; its results are in /out/results.json.
staged=$1
shift
cd "$staged" || exit
cp -r compiled /tmp/compiled
export NODE_COMPILE_CACHE=/tmp/compiled UNDERSTUDY=$staged/bin/understudy.mjs
./node attach.mjs "$@" >/out/output 2>&1
status=$?
dmesg >/out/dmesg
exit $status
