#!/bin/sh
# secrets.sh HOOK FILE...: looks for secrets in the files beside those that .secrets.baseline knows.
#
# Works on a copy of the baseline: the hook writes the new line numbers of known secrets into it and calls that a failure (3),
# but a known secret that moved with the lines above it is no news.
set -u

hook=$1
shift
copy=$(mktemp)
trap 'rm -f "$copy"' EXIT
cp .secrets.baseline "$copy" || exit 1
said=$("$hook" --no-verify --baseline "$copy" "$@" 2>&1)
code=$?
[ "$code" = 3 ] && exit 0
[ -z "$said" ] || printf '%s\n' "$said" >&2
exit "$code"
