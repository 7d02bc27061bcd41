#!/usr/bin/env bash
# `make test-containers`: with the engine that is there, else with one of its own, which ends with the tests. Where
# an upstream image cannot be had, its stand-in is built (stand_ins.sh), and that is said.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/../.."
# Debian's client beside its engine can build with BuildKit; another client on PATH may lack the plugin.
export DOCKER="${DOCKER:-$([ -x /usr/bin/docker ] && echo /usr/bin/docker || echo docker)}"
folder="${LUNA_TEST_ENGINE:-$(mktemp -d /tmp/luna_engine.XXXXXX)}"

if ! "$DOCKER" info >/dev/null 2>&1; then
  command -v dockerd >/dev/null || {
    echo "A container engine must be there, got none. Install one (Debian: docker.io, iptables), or set DOCKER_HOST." >&2
    exit 2
  }
  eval "$("$here/engine.sh" start "$folder")"
  export DOCKER_HOST
  trap '"$here/engine.sh" stop "$folder"; [ -n "${LUNA_TEST_ENGINE:-}" ] || rm -rf "$folder"' EXIT
fi
for image in python:3.11-slim-bookworm postgres:15-bookworm chrislusf/seaweedfs:4.48; do
  "$DOCKER" image inspect "$image" >/dev/null 2>&1 || timeout 300 "$DOCKER" pull --quiet "$image" 2>/dev/null || {
    echo "$image cannot be had here: a stand-in is built, made of Debian's packages" >&2
    "$here/stand_ins.sh" "$folder" "$(sed -E 's#^(chrislusf/)?([a-z]+).*#\2#' <<<"$image")"
  }
done
pytest -m containers -s -o timeout=3600 luna_pipeline_tests/containers "$@"
