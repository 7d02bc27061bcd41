#!/bin/bash
# The code location; where RAY_ADDRESS names a cluster it is a node of it, because Ray's drivers (runs that tune or cut on
# Ray) must be on one. It gives no CPU: trials go to the workers.
set -euo pipefail

if [ -n "${RAY_ADDRESS:-}" ]; then
  # A node ends when its head does, and does not begin before it: it joins again.
  while true; do
    ray start --address="$RAY_ADDRESS" --num-cpus=0 --object-store-memory=200000000 --disable-usage-stats \
      --block >/dev/null || true
    sleep 5
  done &
fi
exec dagster api grpc -m luna_pipeline.definitions -h "$LUNA_LISTEN" -p "$LUNA_CODE_PORT"
