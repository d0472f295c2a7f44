#!/usr/bin/env bash
# Classify a file over Triton's HTTP endpoint: classify.sh TASK FILE [HOST:PORT]
# The body is a JSON header and the tensor behind it; a BYTES tensor is its length, little-endian, and its content.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
task=$1 file=$2 url=${3:-localhost:8000}
size=$(wc -c <"$file")
header='{"inputs":[{"name":"encoded_image","shape":[1,1],"datatype":"BYTES","parameters":{"binary_data_size":'$((size + 4))'}}],'
header+='"outputs":[{"name":"probabilities","parameters":{"classification":10}}]}'
length=$(printf '\\x%02x' $((size & 255)) $((size >> 8 & 255)) $((size >> 16 & 255)) $((size >> 24 & 255)))

{ printf '%s' "$header"; printf '%b' "$length"; cat "$file"; } |
  curl --silent --show-error --fail-with-body --max-time 10 --data-binary @- \
    -H 'Content-Type: application/octet-stream' -H "Inference-Header-Content-Length: ${#header}" \
    "http://$url/v2/models/${task}_classifier/infer"
