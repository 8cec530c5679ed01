#!/usr/bin/env bash
# Writes what each service is made of as CycloneDX: sbom.sh DIRECTORY SERVICE..
# Every crate of Cargo.lock that a service is built from, with version, licence and checksum; nothing is built.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
target=$1; shift
mkdir -p "$target"
tool=$("$here/provision.sh" --print cargo-cyclonedx)
for service in "$@"; do
  # It writes beside the manifest; the name is taken away again.
  "$tool" cyclonedx --quiet --manifest-path "services/$service/Cargo.toml" --format json --spec-version 1.5 \
    --override-filename "sbom-$service" --all-features
  mv "services/$service/sbom-$service.json" "$target/$service.cdx.json"
  find services crates tests benches fuzz -name "sbom-$service.json" -delete
  printf '%s: %s components\n' "$target/$service.cdx.json" "$(grep -c '"bom-ref"' "$target/$service.cdx.json")"
done
