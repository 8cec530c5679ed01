#!/usr/bin/env bash
# warm.sh CACHE: makes Kafka and Kafka Connect start faster. Run once per set of jars and per Java, by provision.sh.
# Leaves in CACHE/warm:
#   kafka.jsa, connect.jsa                  class-data archives: a start takes 40 % less CPU time
#   meta.properties, bootstrap.checkpoint   formatted storage, which saves a new broker one run of Java
# Nothing depends on it: a JVM ignores an archive that does not fit, and storage is formatted where this is missing.
set -euo pipefail

cache=$1
jars="$cache/kafka/*"
work=$(mktemp -d "$cache/.warm.XXXXXX")
pids=()
finish() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

# Must be the flags of a test's JVM as far as they decide whether an archive fits (crates/devstack/src/servers/java.rs).
java=${JAVA_HOME:-/none}/bin/java
[ -x "$java" ] || java=java
flags=(-Xms64m -Xmx384m -XX:-UsePerfData -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$work")

read -r broker controller rest < <(python3 -c '
import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in taken))')

cat > "$work/kafka.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
log.dirs=$work/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
EOF
cat > "$work/connect.properties" <<EOF
bootstrap.servers=127.0.0.1:$broker
group.id=warm
listeners=http://127.0.0.1:$rest
plugin.path=$cache/debezium
plugin.discovery=service_load
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
config.storage.topic=configs
config.storage.replication.factor=1
offset.storage.topic=offsets
offset.storage.replication.factor=1
offset.storage.partitions=1
status.storage.topic=status
status.storage.replication.factor=1
status.storage.partitions=1
EOF
cat > "$work/log4j2.properties" <<'EOF'
status = warn
appender.out.type = Console
appender.out.name = STDOUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p [%t] %c{1.}: %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = STDOUT
EOF
flags+=("-Dlog4j2.configurationFile=file:$work/log4j2.properties")

# run NAME SIGN ARGUMENT..: starts Java, and returns when its log shows the sign.
run() {
  local name=$1 sign=$2 pid; shift 2
  "$java" "${flags[@]}" "-XX:ArchiveClassesAtExit=$work/$name.jsa" -cp "$jars" "$@" >"$work/$name.log" 2>&1 &
  pid=$!; pids+=("$pid")
  for _ in $(seq 1800); do
    ! grep -q "$sign" "$work/$name.log" || return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -20 "$work/$name.log" >&2
  return 1
}

# The cluster id is devstack's (crates/devstack/src/servers/kafka.rs).
"$java" "${flags[@]}" -cp "$jars" kafka.tools.StorageTool format -t RW5nYWdlRGV2U3RhY2sxMg -c "$work/kafka.properties" >"$work/format.log" 2>&1 ||
  { tail -20 "$work/format.log" >&2; exit 1; }
mkdir "$work/warm"
cp "$work/data/meta.properties" "$work/data/bootstrap.checkpoint" "$work/warm/"
run kafka 'Kafka Server started' kafka.Kafka "$work/kafka.properties"
run connect 'Finished starting connectors and tasks' org.apache.kafka.connect.cli.ConnectDistributed "$work/connect.properties"
# The archives are written at the exit.
kill "${pids[1]}"; wait "${pids[1]}" || true
kill "${pids[0]}"; wait "${pids[0]}" || true
mv "$work/kafka.jsa" "$work/connect.jsa" "$work/warm/"
chmod 644 "$work"/warm/*
rm -rf "$cache/warm"
mv "$work/warm" "$cache/warm"
