"""Exits with 0 if the server is up, for container engines without gRPC probes.

Usage: healthcheck.py ADDRESS [SERVICE], where SERVICE is a name of grpc.health.v1: "liveness" (the
default), "readiness", or "models/NAME" for one model.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 4


def main(address: str, service: str = "liveness") -> int:
    """Asks the server, and returns the exit code."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            sys.stderr.write(f"{address} {service}: {error.code().name}: {error.details()}\n")
            return 1
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.stderr.write(f"{address} {service}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
