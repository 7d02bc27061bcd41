#!/usr/bin/env bash
# A Docker engine of one's own for tests: its images, containers, socket and bridge are apart from any other engine.
#
#   engine.sh start FOLDER      prints DOCKER_HOST=unix://FOLDER/docker.sock; says the same when it runs already
#   engine.sh stop FOLDER       ends it with its containers, and removes bridge, mounts and packet filter rules of it
#
# Wants root and `dockerd` (Debian: docker.io and iptables). FOLDER stays: images and the builder's cache are in it.
# One engine at a time: a second one takes the first's packet filter rules, so that a start beside another is refused.
set -euo pipefail

fail() { echo "$*" >&2; exit 2; }
[ $# = 2 ] || fail "A command and a folder must be named, got $# arguments. Usage: engine.sh start|stop FOLDER"
mkdir -p "$2"
folder="$(cd "$2" && pwd)"
pid_file="$folder/docker.pid"
[ ${#folder} -le 80 ] ||
  fail "The folder's name must have at most 80 characters, got ${#folder} ($folder). Sockets are in it: choose a shorter one."

docker_here() { "${DOCKER:-docker}" -H "unix://$folder/docker.sock" "$@"; }
is_running() { [ -s "$pid_file" ] && kill -0 "$(<"$pid_file")" 2>/dev/null; }
# One may have been started later by other means: what both use is then left alone.
other_engines() { pgrep -x dockerd 2>/dev/null | grep -vxF "$(cat "$pid_file" 2>/dev/null || echo -)" || true; }

start() {
  if is_running; then echo "DOCKER_HOST=unix://$folder/docker.sock"; return; fi
  command -v dockerd >/dev/null ||
    fail "The engine must be installed, got no dockerd. Run: apt-get install docker.io iptables"
  local others
  others="$(other_engines)"
  [ -z "$others" ] || fail "No other engine may run, got dockerd ($others). Use it, or stop it first."
  [ "$(id -u)" = 0 ] || fail "The engine must be started by root, got user $(id -un). Use sudo."

  # A bridge of its own: a name of at most 15 characters, and the first network of 10.213 to 10.239 that is free.
  local bridge number gateway mtu
  bridge="luna$(printf '%s' "$folder" | cksum | cut -d' ' -f1)"
  bridge="${bridge:0:15}"
  for number in $(seq 213 239); do
    ip -4 route show | grep -qE "^10\.$number\." || break
  done
  gateway="10.$number.0.1"
  mtu="$(ip -4 route show default | sed -n '1s/.* dev \([^ ]*\).*/\1/p')"
  mtu="$(cat "/sys/class/net/$mtu/mtu" 2>/dev/null || echo 1500)"
  ip link show "$bridge" >/dev/null 2>&1 || ip link add name "$bridge" mtu "$mtu" type bridge
  ip addr replace "$gateway/24" dev "$bridge"
  ip link set "$bridge" up
  echo "$bridge" >"$folder/bridge"
  iptables -S FORWARD | sed -n 1p >"$folder/forward_policy"

  rm -f "$pid_file"
  setsid dockerd --data-root "$folder/docker" --exec-root "$folder/exec" --pidfile "$pid_file" \
    -H "unix://$folder/docker.sock" --bridge "$bridge" --mtu "$mtu" >"$folder/dockerd.log" 2>&1 </dev/null &
  for number in $(seq 60); do
    if is_running && [ -S "$folder/docker.sock" ] &&
      docker_here version >/dev/null 2>&1; then
      echo "DOCKER_HOST=unix://$folder/docker.sock"
      return
    fi
    sleep 0.5
  done
  tail -n 5 "$folder/dockerd.log" >&2
  fail "The engine must answer within 30 s, got nothing ($folder/dockerd.log). See its last lines above."
}

# Rules name the bridge. Never go by the subnet: another engine may have a network of the same.
remove_rules() { # TEXT: of every rule that has it
  local table rule
  for table in filter nat; do
    while
      rule="$(iptables -t "$table" -S | awk -v text="$1" '/^-A/ && index($0 " ", text) && !found++')"
      [ -n "$rule" ]
    do
      eval "iptables -t $table -D ${rule#-A}"
    done
  done
}

remove_chains() {
  local table chain
  remove_rules " -j DOCKER"
  for table in filter nat; do
    for chain in $(iptables -t "$table" -S | sed -nE 's/^-N (DOCKER[^ ]*)$/\1/p'); do
      iptables -t "$table" -F "$chain" && iptables -t "$table" -X "$chain"
    done
  done
}

stop() {
  local bridge number bridges=()
  [ ! -s "$folder/bridge" ] || bridges+=("$(<"$folder/bridge")")
  if is_running; then
    # The networks of compose projects have bridges too: their names, while the engine can tell.
    for number in $(docker_here network ls --quiet --filter driver=bridge --filter type=custom); do
      bridges+=("br-$number")
    done
    kill "$(<"$pid_file")"
    for number in $(seq 60); do
      is_running || break
      sleep 0.5
    done
    ! is_running || fail "The engine must end within 30 s, got it still there. See $folder/dockerd.log."
  fi
  for bridge in "${bridges[@]}"; do
    ip link delete "$bridge" 2>/dev/null || true
    remove_rules " $bridge "
  done
  if [ -z "$(other_engines)" ]; then
    remove_chains
    # Docker lets nothing be forwarded but its own; as it was before.
    # shellcheck disable=SC2046  # the words of a rule
    [ ! -s "$folder/forward_policy" ] || iptables $(<"$folder/forward_policy")
  fi
  { grep -oE " $folder/[^ ]*" /proc/mounts || true; } | sort -r |
    while read -r mount; do umount -l "$mount" || true; done
  rm -rf "$folder/exec" "$folder/bridge" "$folder/forward_policy" "$pid_file" "$folder/docker.sock"
}

case "$1" in
  start | stop) "$1" ;;
  *) fail "The command must be start or stop, got $1. Usage: engine.sh start|stop FOLDER" ;;
esac
