"""Check the health of a service of the stack: `health.py http URL`, `grpc PORT` or `tcp PORT`; exit code 0 or 1."""

import socket
import sys
import urllib.request

LIMIT_SECONDS = 8


def is_serving(port: int) -> bool:
    """Check the code location on this machine with gRPC's health protocol."""
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(service="DagsterApi"), timeout=LIMIT_SECONDS)
    return bool(answer.status == HealthCheckResponse.SERVING)


def main(kind: str, place: str) -> int:
    """Check, and print the error."""
    try:
        if kind == "grpc":
            well = is_serving(int(place))
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
