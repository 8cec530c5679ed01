#!/usr/bin/env python3
"""schemas.py KUBERNETES_VERSION SCHEMAS FILE ..: validates rendered manifests, strictly.

Kubernetes' own resources against the schemas of the package kubernetes-validate, custom resources against SCHEMAS/*.json. A
resource without a schema is an error, never skipped. Exit: 0 all are valid, 1 something is not.
"""
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


class Unique(yaml.CSafeLoader):
    """A key that stands twice is an error; YAML itself says so, PyYAML takes the last."""


def unique_mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"key {sorted(twice)} stands twice", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Unique.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, unique_mapping)


def custom(schemas, document):
    """The schema of a custom resource, None for Kubernetes' own."""
    group, _, version = document["apiVersion"].rpartition("/")
    path = schemas / f"{document['kind'].lower()}-{group}-{version}.json"
    return json.loads(path.read_text()) if path.exists() else None


def problem(version, schemas, document):
    """What is wrong with the document, None if nothing."""
    try:
        schema = custom(schemas, document)
        if schema is None:
            kubernetes_validate.validate(document, version, strict=True)
        else:
            jsonschema.Draft202012Validator(schema).validate(document)
    except kubernetes_validate.SchemaNotFoundError:
        return f"no schema for {document['apiVersion']} {document['kind']}; deploy/validate/crds.sh makes those of custom resources"
    except jsonschema.ValidationError as error:
        return f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message[:300]}"
    return None


def main():
    version, schemas, *files = sys.argv[1:]
    schemas, wrong = pathlib.Path(schemas), 0
    for name in files:
        try:
            documents = [d for d in yaml.load_all(pathlib.Path(name).read_text(), Loader=Unique) if d]
        except yaml.YAMLError as error:
            sys.exit(f"{name}: {error}")
        for document in documents:
            found = problem(version, schemas, document)
            if found:
                wrong += 1
                print(f"{name}: {document['kind']}/{document['metadata']['name']}: {found}", file=sys.stderr)
        print(f"{name}: {len(documents)} resources")
        if not documents:
            wrong += 1
            print(f"{name}: nothing in it", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
