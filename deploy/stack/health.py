"""Check the health of a service: `health.py http URL`, `grpc PORT`, `tcp PORT` or `daemon`; exit code 0 or 1."""

import os
import socket
import sys
import urllib.request

LIMIT_SECONDS = 8
TOLERANCE_SECONDS = 1830
"""As `dagster-daemon liveness-check` has it."""
DAEMONS = {
    "ASSET",
    "BACKFILL",
    "EVENT_LOG_CONSUMER",
    "FRESHNESS_DAEMON",
    "MONITORING",
    "QUEUED_RUN_COORDINATOR",
    "SCHEDULER",
    "SENSOR",
}
"""Parts of Dagster's daemon that dagster.yaml requires."""


def is_serving(port: int) -> bool:
    """Check the code location on this machine with gRPC's health protocol."""
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(service="DagsterApi"), timeout=LIMIT_SECONDS)
    return bool(answer.status == HealthCheckResponse.SERVING)


def is_beating() -> bool:
    """Check the heartbeats of the daemon's parts in Dagster's database.

    `dagster-daemon liveness-check` gives the same answer, but imports Dagster: 3 s of a processor for each check.
    """
    import psycopg2

    place = {name: os.environ[f"DAGSTER_POSTGRES_{name.upper()}"] for name in ("host", "port", "user", "password")}
    database = os.environ["DAGSTER_POSTGRES_DB"]
    recent = "SELECT daemon_type FROM daemon_heartbeats WHERE timestamp > timezone('utc', now()) - %s * interval '1 s'"
    with psycopg2.connect(**place, dbname=database, connect_timeout=LIMIT_SECONDS) as connection:
        cursor = connection.cursor()
        cursor.execute(recent, (TOLERANCE_SECONDS,))
        silent = DAEMONS - {name for (name,) in cursor.fetchall()}
    if silent:
        print(f"No heartbeat of {', '.join(sorted(silent))}")
    return not silent


def main(kind: str, place: str = "") -> int:
    """Check, and print the error."""
    try:
        if kind == "grpc":
            well = is_serving(int(place))
        elif kind == "daemon":
            well = is_beating()
        elif kind == "tcp":
            with socket.create_connection(("127.0.0.1", int(place)), timeout=LIMIT_SECONDS):
                well = True
        else:
            with urllib.request.urlopen(place, timeout=LIMIT_SECONDS) as answer:
                well = answer.status == 200
    except Exception as error:
        print(f"{kind} {place}: {error}")
        return 1
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
