#!/usr/bin/env bash
# Builds every image: the services, engagectl, and Kafka Connect with the connector. Compiles once.
#
#   images.sh [--strimzi]    also the Connect image for Strimzi
#
# ENGAGE_IMAGES   prefix of the names            (engage)
# ENGAGE_VERSION  their tag                      (the workspace's version)
# BUILD_ARGS      further arguments of `docker build`, such as --build-arg RUNTIME_IMAGE=..
#
# Exit codes: 0 all are built and small enough, 64 bad usage, 69 no engine, 70 a build failed, 78 an image is too large.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

largest=$((60 * 1000 * 1000)) # bytes of a service's image
say() { printf 'images: %s\n' "$*" >&2; }
strimzi=0
for option; do
  case $option in
    --strimzi) strimzi=1 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) say "unknown option $option; see --help"; exit 64 ;;
  esac
done
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || {
  say "no container engine answers; start Docker, or see docs/deployment.md for builds elsewhere"; exit 69; }

prefix=${ENGAGE_IMAGES:-engage}
version=${ENGAGE_VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)}
sha=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
read -ra more <<<"${BUILD_ARGS:-}"

build() { # NAME FILE TARGET [arguments]
  local name=$1 file=$2 target=$3; shift 3
  say "building $prefix/$name:$version"
  docker build --file "$file" --target "$target" --tag "$prefix/$name:$version" \
    --build-arg "VERSION=$version" --build-arg "GIT_SHA=$sha" "${more[@]}" "$@" . ||
    { say "building $prefix/$name failed; what is wrong stands above"; exit 70; }
}

small() { # NAME
  local bytes; bytes=$(docker image inspect --format '{{.Size}}' "$prefix/$1:$version")
  say "$prefix/$1:$version is $((bytes / 1000000)) MB"
  [ "$bytes" -le "$largest" ] || { say "$prefix/$1 is larger than $((largest / 1000000)) MB"; exit 78; }
}

export DOCKER_BUILDKIT=1
for service in enricher clickhouse-sink redis-aggregator webhook-forwarder; do
  build "$service" deploy/docker/Dockerfile service --build-arg "BIN=$service"
  small "$service"
done
build "engagectl" deploy/docker/Dockerfile tool
build connect deploy/docker/connect.Dockerfile connect
[ "$strimzi" = 0 ] || build connect-strimzi deploy/docker/connect.Dockerfile strimzi
