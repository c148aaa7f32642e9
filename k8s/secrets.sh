#!/bin/sh
# Creates the Secrets that IMMR needs in a namespace, with random content, unless they exist:
#   sh k8s/secrets.sh NAMESPACE
set -eu
[ $# -eq 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
exists() { kubectl -n "$namespace" get secret "$1" --output=name >/dev/null 2>&1; }
namespace=$1
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
umask 077
openssl rand 32 > "$folder/token.key"
openssl rand -hex 24 | tr -d '\n' > "$folder/password"
exists immr-click-tokens || kubectl -n "$namespace" create secret generic immr-click-tokens --from-file="$folder/token.key"
exists immr-postgres || kubectl -n "$namespace" create secret generic immr-postgres --from-file="$folder/password"
