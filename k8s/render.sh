#!/bin/sh
# Prints the objects of an overlay with images of your registry, for `kubectl apply -f -`:
#   sh k8s/render.sh OVERLAY REGISTRY [TAG] [NAMESPACE]
#   sh k8s/render.sh production registry.example/immr
# With NAMESPACE, the objects are a separate shop: they do not refer to any other namespace.
set -eu
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
here=$(dirname "$0")
tag=${3:-$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$here/../src/immr/__init__.py")}
folder=$(mktemp -d "$here/overlays/.render-XXXXXX")
trap 'rm -r "$folder"' EXIT
{
  echo "resources: [../$1]"
  echo "images:"
  for image in pipeline-python serving gateway spark; do
    echo "  - {name: immr/$image, newName: $2/$image, newTag: \"$tag\"}"
  done
  if [ -n "${4:-}" ]; then
    cat <<SHOP
transformers:
  - |-
    apiVersion: builtin
    kind: NamespaceTransformer
    metadata: {name: namespace, namespace: $4}
    setRoleBindingSubjects: allServiceAccounts
patches:
  - target: {kind: Namespace}
    patch: |-
      - {op: replace, path: /metadata/name, value: $4}
SHOP
  fi
} > "$folder/kustomization.yaml"
# the Prometheus rules contain the namespace in their expressions
own=$(sed -n 's/^namespace: *\([^ #]*\).*/\1/p' "$here/overlays/$1/kustomization.yaml")
kubectl kustomize "$folder" > "$folder/objects"
sed -E "s/namespace=(\\\\?\")$own(\\\\?\")/namespace=\\1${4:-$own}\\2/g; s/^( +)namespace: $own\$/\\1namespace: ${4:-$own}/" "$folder/objects"
