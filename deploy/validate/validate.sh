#!/usr/bin/env bash
# Validates everything that is deployed: Dockerfiles, docker-compose.yml, and each overlay of k8s/ as it is rendered.
#
#   validate.sh --quick    what the wheels of deploy/provision/deploy-tools.txt can check
#   validate.sh            also kube-score
#   validate.sh --server   also a dry run of every resource by a real API server
#
# The rendered overlays are left in target/deploy. Exit codes: 0 all is valid, 1 something is not, 69 a tool is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

kubernetes=1.36
mode=${1:-}
case $mode in
  "") bring=(--score) ;;
  --quick) bring=() ;;
  --server) bring=(--score --server) ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64 ;;
esac
deploy/provision/deploy-tools.sh "${bring[@]}"
bin=$(deploy/provision/deploy-tools.sh --print)

failed=()
check() { # NAME COMMAND: all of them are tried, so that all that is wrong is known at once
  local name=$1; shift
  if "$@"; then echo "valid    $name"; else echo "INVALID  $name" >&2; failed+=("$name"); fi
}

out=target/deploy
rm -rf "$out"; mkdir -p "$out"
check "render" "$here/render.sh" "$out"
overlays=()
for overlay in k8s/overlays/*/; do overlays+=("$out/$(basename "$overlay").yaml"); done

scripts() { local file; for file in "$@"; do bash -n "$file" || return 1; done; }
check "schemas (Kubernetes $kubernetes, custom resources)" "$bin/python" "$here/schemas.py" "$kubernetes" k8s/schemas "${overlays[@]}"
check "Dockerfiles" "$bin/hadolint" --config .hadolint.yaml deploy/docker/Dockerfile deploy/docker/connect.Dockerfile
check "docker-compose.yml" "$bin/docker-compose" --file docker-compose.yml --profile '*' config --quiet
check "scripts" scripts deploy/*.sh deploy/*/*.sh k8s/components/*/*.sh

# Left out, with the reason:
#   container-image-pull-policy          a tag never moves, and clusters without a registry (kind) have the image already
#   deployment-has-host-podantiaffinity  spread constraints do it, and let a small cluster run all the same
#   (--ignore-container-cpu-limit)       throttling shows as latency
score() { # FILE
  local leave=(--ignore-test container-image-pull-policy --ignore-test deployment-has-host-podantiaffinity --ignore-container-cpu-limit)
  # One of each, for trying out: no copies, servers of others, which write and have users of their own (our pods are looked at elsewhere).
  case $1 in */dev.yaml) leave+=(--ignore-test container-security-context-readonlyrootfilesystem --ignore-test deployment-replicas
    --ignore-test container-security-context-user-group-id
    --ignore-test statefulset-has-host-podantiaffinity --ignore-test statefulset-has-poddisruptionbudget --ignore-test deployment-has-poddisruptionbudget) ;; esac
  "$bin/kube-score" score --kubernetes-version "v$kubernetes" --output-format ci --exit-one-on-warning "${leave[@]}" "$1" > "$1.score" ||
    { grep -v '^\[OK\]\|^\[SKIPPED\]' "$1.score" >&2; return 1; }
}
if [ "$mode" != --quick ]; then for file in "${overlays[@]}"; do check "kube-score $(basename "$file" .yaml)" score "$file"; done; fi
if [ "$mode" = --server ]; then check "dry run by an API server" "$here/server.sh" "$bin" "${overlays[@]}"; fi

if [ ${#failed[@]} -gt 0 ]; then printf 'invalid: %s\n' "${failed[@]}" >&2; exit 1; fi
