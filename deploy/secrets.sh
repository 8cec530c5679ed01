#!/usr/bin/env bash
# Makes the secrets of an installation, each in its own file. What is there already stays, so that it can be run again.
#
#   secrets.sh DIR      docker-compose.yml runs it by itself; for Kubernetes: deploy/secrets.sh k8s/overlays/prod/secrets
#
# POSTGRES_HOST, REDIS_HOST  where these servers are   (postgres, redis)
# MODE                       of the files              (0600)
#
# Files that name your own servers (database_url, lookup_url, canary_url, database_admin_url, redis_url) can be replaced by hand.
# Exit codes: 0 all are there, 64 bad usage, 70 one cannot be written.
set -euo pipefail

[ $# = 1 ] && [ "${1#-}" = "$1" ] || { sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64; }
dir=$1
postgres=${POSTGRES_HOST:-postgres}
redis=${REDIS_HOST:-redis}
umask 077
mkdir -p "$dir" && [ -w "$dir" ] || { echo "secrets: $dir cannot be written; name a directory of yours" >&2; exit 70; }

# Letters and digits only: it stands in URLs.
random() { head -c 64 /dev/urandom | base64 -w0 | tr -dc 'A-Za-z0-9' | cut -c1-32; }
sha256() { printf %s "$1" | sha256sum | cut -d' ' -f1; }

# Under another name first: a file that is there is whole.
keep() { # NAME VALUE
  [ -e "$dir/$1" ] && return
  printf '%s\n' "$2" > "$dir/.$1.new"
  chmod "${MODE:-0600}" "$dir/.$1.new"
  mv "$dir/.$1.new" "$dir/$1"
}
of() { cat "$dir/$1"; }

for name in postgres_password owner_password lookup_password canary_password cdc_password kafka_password clickhouse_password \
  redis_password grafana_password; do
  keep "$name" "$(random)"
done
keep webhook_secret "whsec_$(head -c 32 /dev/urandom | base64 -w0)"

# The administrator creates the role that replicates and the publication; `engage` owns the tables; the enricher reads contents;
# the canary writes its rows.
keep database_admin_url "postgres://postgres:$(of postgres_password)@$postgres:5432/engage"
keep database_url "postgres://engage:$(of owner_password)@$postgres:5432/engage"
keep lookup_url "postgres://engage_lookup:$(of lookup_password)@$postgres:5432/engage"
keep canary_url "postgres://engage_canary:$(of canary_password)@$postgres:5432/engage"
keep redis_url "redis://engage:$(of redis_password)@$redis:6379"

# Everything but what could harm the server or lose data; of the dangerous commands only those that the aggregator needs.
keep redis.acl "user default off
user engage on #$(sha256 "$(of redis_password)") ~* &* +@all -@dangerous +info +config|get +bgrewriteaof"

keep clickhouse.xml "<clickhouse>
  <users>
    <default>
      <networks replace=\"replace\"><ip>127.0.0.1</ip><ip>::1</ip></networks>
    </default>
    <engage>
      <password_sha256_hex>$(sha256 "$(of clickhouse_password)")</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile><quota>default</quota>
      <grants>
        <query>GRANT ALL ON engagement.*</query>
        <query>GRANT TABLE ENGINE ON *</query>
        <query>GRANT CREATE TEMPORARY TABLE ON *.*</query>
        <query>GRANT SELECT ON system.*</query>
        <query>GRANT KILL QUERY ON *.*</query>
      </grants>
    </engage>
  </users>
</clickhouse>"
