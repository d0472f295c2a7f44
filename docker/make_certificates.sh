#!/usr/bin/env bash
# A certificate authority for development, a server's certificate and clients' certificates, for mutual TLS.
#
#   docker/make_certificates.sh FOLDER [--server NAME]... [--client NAME]... [--days N]
#
# NAME of a server is a DNS name or an IP address that callers use; localhost and 127.0.0.1 are always in. Each client
# gets its own certificate, CLIENT.pem. Run again: the authority stays, the certificates are made anew.
# In production let your own authority sign, keep its key off this machine, and use the same file names.
set -euo pipefail
umask 077

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }

[[ $# -ge 1 && $1 != -* ]] || usage
folder=$1; shift
servers=(localhost 127.0.0.1) clients=() days=90
while [[ $# -gt 0 ]]; do
  [[ $# -ge 2 ]] || usage
  case $1 in
    --server) servers+=("$2") ;;
    --client) clients+=("$2") ;;
    --days) days=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[[ ${#clients[@]} -gt 0 ]] || clients=(client)
[[ $days =~ ^[1-9][0-9]*$ ]] || usage
for name in "${servers[@]}" "${clients[@]}"; do
  # What goes into a file's name or a certificate's fields must be nothing but a name.
  [[ $name =~ ^[A-Za-z0-9*:][A-Za-z0-9.:_-]*$ ]] || { echo "not a name: $name" >&2; exit 2; }
done
for name in "${clients[@]}"; do
  # NAME.pem must be nobody else's: neither the authority's, nor the server's, nor a key.
  [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ && $name != server && $name != ca && $name != *-key ]] \
    || { echo "not a client's name: $name" >&2; exit 2; }
done

mkdir -p "$folder"
work=$(mktemp -d "$folder/.new-XXXXXX")
trap 'rm -rf "$work"' EXIT

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

if [[ ! -f $folder/ca.pem || ! -f $folder/ca-key.pem ]]; then
  new_key "$work/ca-key.pem"
  openssl req -x509 -new -key "$work/ca-key.pem" -sha256 -days 1825 -subj "/CN=densescan development CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -out "$work/ca.pem"
  mv "$work/ca-key.pem" "$work/ca.pem" "$folder/"
fi

# FILE COMMON_NAME PURPOSE ALTERNATIVE_NAMES
sign() {
  new_key "$work/$1-key.pem"
  openssl req -new -key "$work/$1-key.pem" -subj "/CN=$2" -out "$work/request.pem"
  printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
    "extendedKeyUsage=$3" "subjectAltName=$4" > "$work/extensions"
  openssl x509 -req -in "$work/request.pem" -CA "$folder/ca.pem" -CAkey "$folder/ca-key.pem" -sha256 \
    -days "$days" -set_serial "0x$(openssl rand -hex 16)" -extfile "$work/extensions" -out "$work/$1.pem" 2>/dev/null
  mv "$work/$1-key.pem" "$work/$1.pem" "$folder/"
}

names=""
for name in "${servers[@]}"; do
  if [[ $name == *:* || $name =~ ^[0-9.]+$ ]]; then names+=",IP:$name"; else names+=",DNS:$name"; fi
done
sign server "densescan server" serverAuth "${names#,}"
for name in "${clients[@]}"; do sign "$name" "$name" clientAuth "DNS:$name"; done
chmod 644 "$folder"/ca.pem "$folder/server.pem"
# The containers' user reads the key; a folder of somebody else's is left as it is.
if [[ $(id -u) == 0 ]]; then chown 1000:1000 "$folder/server-key.pem"; fi
echo "in $folder: ca.pem, server.pem and $(printf '%s.pem ' "${clients[@]}")with their keys, for $days days" >&2
