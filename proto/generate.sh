#!/bin/sh
# Makes the Python stubs beside the .proto files; tests/contracts checks that they are current.
set -eu
cd "$(dirname "$0")"
out="${1:-.}"
"${PYTHON:-python}" -m grpc_tools.protoc -I . --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" radserve/v1/*.proto
