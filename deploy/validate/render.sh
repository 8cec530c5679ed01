#!/usr/bin/env bash
# render.sh DIRECTORY: writes each overlay of k8s/ as it would be applied (NAME.yaml, and NAME.json as a list), and docker-compose.yml
# with all profiles (compose.json). Overlays take their secrets from files that nobody commits: here they are random.
# Exit codes: 0 all is there, 1 an overlay does not render, 64 bad usage, 69 a tool is missing.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
deploy/provision/deploy-tools.sh
bin=$(deploy/provision/deploy-tools.sh --print)

rm -rf "$out/k8s"
cp -r k8s "$out/k8s"
trap 'rm -rf "$out/k8s"' EXIT
rm -rf "$out"/k8s/overlays/*/secrets
for overlay in "$out"/k8s/overlays/*/; do
  name=$(basename "$overlay")
  deploy/secrets.sh "$overlay/secrets"
  "$bin/kubectl" kustomize "$overlay" > "$out/$name.yaml" || { echo "render: the overlay $name does not render" >&2; exit 1; }
done
"$bin/python" - "$out" <<'PYTHON'
import json, pathlib, sys, yaml
for path in pathlib.Path(sys.argv[1]).glob("*.yaml"):
    documents = [d for d in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if d]
    path.with_suffix(".json").write_text(json.dumps(documents))
PYTHON
"$bin/docker-compose" --file docker-compose.yml --profile '*' config --format json > "$out/compose.json"
