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
# a self-signed certificate for Redis; replace it with one from your CA if you have one
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=redis -addext subjectAltName=DNS:redis \
  -keyout "$folder/tls.key" -out "$folder/tls.crt" 2>/dev/null
cp "$folder/tls.crt" "$folder/ca.crt"
exists immr-click-tokens || kubectl -n "$namespace" create secret generic immr-click-tokens --from-file="$folder/token.key"
exists immr-postgres || kubectl -n "$namespace" create secret generic immr-postgres --from-file="$folder/password"
openssl rand -hex 24 | tr -d '\n' > "$folder/password"
exists immr-redis || kubectl -n "$namespace" create secret generic immr-redis --from-file="$folder/password" \
  --from-file="$folder/ca.crt" --from-file="$folder/tls.crt" --from-file="$folder/tls.key"
