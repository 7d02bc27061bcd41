#!/usr/bin/env bash
# Start command of a RunPod pod: creates the folders on the network volume, then runs one command under a spend guard.
#
#   bash /workspace/runpod/start.sh job train_nodule_classifier
#   bash /workspace/runpod/start.sh luna train_luna_classification 0.1.0 --epochs 100
#
# The network volume is mounted at /workspace and outlives the pod; all other files of a pod are lost with it. Folders:
#
#   runpod/               this folder, copied once
#   luna/data             raw CT and tables           (LUNA_DATA_DIR)
#   luna/home             results, MLflow's database  (LUNA_HOME; may be s3://bucket/prefix instead)
#   luna/cache/s3         local copies of objects     (LUNA_CACHE)
#   luna/dagster          Dagster's run history       (DAGSTER_HOME)
#   luna/spent.tsv        the ledger, see spend_guard.py
#
# After a stop or a preemption, the same command resumes from the last checkpoint. No port is open.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

refuse() {
  echo "$*" >&2
  # An idle pod costs as much as a busy one.
  exec python3 "$here/spend_guard.py" stop
}

if [[ -z "${LUNA_VOLUME:-}" ]]; then
  LUNA_VOLUME=/workspace
  mountpoint -q "$LUNA_VOLUME" ||
    refuse "The network volume must be mounted, got none ($LUNA_VOLUME). Attach one, or name a folder: LUNA_VOLUME."
fi
root="$LUNA_VOLUME/luna"
if ! mkdir -p "$root"/{data,home,cache/s3,dagster} 2>/dev/null || [[ ! -w "$root" ]]; then
  refuse "The volume must be writable, got one that is not ($root, user $(id -u)). Change its owner or the pod's user."
fi

# The image's defaults for these are on the container's disk, which is lost with the pod.
export LUNA_DATA_DIR="$root/data" LUNA_CACHE="$root/cache/s3" DAGSTER_HOME="$root/dagster"
[[ "${LUNA_HOME:-}" == s3://* ]] || export LUNA_HOME="$root/home"
# Temporary files of one process are not written to the network volume.
export MPLCONFIGDIR="${MPLCONFIGDIR:-${TMPDIR:-/tmp}/matplotlib}"
export MLFLOW_DISABLE_TELEMETRY=true
[[ -e "$DAGSTER_HOME/dagster.yaml" ]] ||
  printf '%s\n' 'telemetry: {enabled: false}' 'nux: {enabled: false}' >"$DAGSTER_HOME/dagster.yaml"

if (($# == 0)); then
  refuse "A piece of work must be given, got none. Example: start.sh job train_nodule_classifier"
fi
if [[ "$1" == job ]]; then
  set -- dagster job execute -m luna_pipeline.definitions -j "${@:2}"
fi
exec python3 "$here/spend_guard.py" run "$root/spent.tsv" "$@"
