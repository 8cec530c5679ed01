#!/usr/bin/env python3
"""crd2schema.py DIRECTORY CRD.yaml ..: writes the JSON schema of each version of each custom resource, strict.

Strict: a property that the definition does not name is refused. Descriptions are left out, they are most of the size.
"""
import json
import pathlib
import sys

import yaml

# A lone `=` is a value in YAML 1.1, which PyYAML does not know.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)

METADATA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def strict(schema):
    """The schema without descriptions, and without room for unknown properties."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    out = {
        key: {name: strict(part) for name, part in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if key == "properties" or not (key.startswith("x-kubernetes-") or key in ("description", "format", "default"))
    }
    if "properties" in out and "additionalProperties" not in out and out.get("type") == "object" and not open_ended:
        out["additionalProperties"] = False
    return out


def write(directory, definition):
    group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
    for version in definition["spec"]["versions"]:
        if not version.get("served", True):
            continue
        schema = strict(version["schema"]["openAPIV3Schema"])
        identity = {"const": f"{group}/{version['name']}"}
        schema["properties"].update(apiVersion=identity, kind={"const": kind}, metadata=METADATA)
        schema["required"] = sorted({"apiVersion", "kind", "metadata", "spec", *schema.get("required", [])})
        path = directory / f"{kind.lower()}-{group}-{version['name']}.json"
        path.write_text(json.dumps(schema, sort_keys=True, separators=(",", ":")) + "\n")
        print(path)


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        for document in yaml.safe_load_all(pathlib.Path(name).read_text()):
            if document and document.get("kind") == "CustomResourceDefinition":
                write(directory, document)


if __name__ == "__main__":
    main()
