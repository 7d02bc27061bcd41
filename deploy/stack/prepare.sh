#!/bin/bash
# Before each start of the stack: the store's buckets, Dagster's tables, and how many runs may use a pool at once.
set -euo pipefail

python "$(dirname "$0")/buckets.py" make luna mlflow
# Makes the tables where there are none. It changes no tables of an older version, and ends here: `make upgrade`.
python "$(dirname "$0")/schema.py" "gpu=${GPU_RUNS:-1}" "disk=${DISK_RUNS:-2}"
