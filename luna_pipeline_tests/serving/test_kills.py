"""Processes of the service are killed while CTs arrive: each CT ends done, or failed with a reason, exactly once.

Killed are the front with its workers, a worker, the receiver, and PostgreSQL. `LUNA_TEST_SERVING_KILLS` is the number
of kills, at random moments, while 10 CTs are uploaded and 10 pushed; by default only one CT each, and a kill of each
process but a worker, of which `test_worker` has some. An archive gets the DICOM results, each object once or again
unchanged.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from luna_pipeline_tests.postgres_server import POSTGRES_BIN, PostgresCluster
from luna_pipeline_tests.processes import free_port, started, wait_for
from luna_pipeline_tests.serving.dicom.archives import Archive, archive
from luna_pipeline_tests.serving.services import ENDED, Service, phantom_ct, wait_until_ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(POSTGRES_BIN is None, reason="PostgreSQL is not installed"),
]

KINDS = ("worker", "receiver", "database", "front")
NUM_KILLS = int(os.environ.get("LUNA_TEST_SERVING_KILLS", "0"))
NUM_CTS = 10 if NUM_KILLS else 1
LOST_WORKERS = "got 2 workers that ended during it"


@dataclass
class Deployment:
    """The processes of a service; one that ends is started again at once, as by an init system.

    Attributes:
        service: Its files.
        commands: Command of each process by kind.
        environment: Environment of its processes.
        receiver_port: Where the receiver listens.
        processes: Running processes by kind.
    """

    service: Service
    commands: dict[str, list[str]]
    environment: dict[str, str]
    receiver_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    is_ending: bool = False

    def start(self, kind: str) -> None:
        log = self.service.root / f"{kind}.log"
        process = started(self.commands[kind], environment=self.environment, log=log)
        self.processes[kind] = self.stack.enter_context(process)

    def keep_running(self) -> None:
        """Start processes again that have ended, until the deployment ends."""
        while not self.is_ending:
            for kind, process in list(self.processes.items()):
                if process.poll() is not None and not self.is_ending:
                    self.start(kind)
            time.sleep(0.05)

    def workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.processes["front"].pid).children()
            return [child for child in children if "luna_pipeline.serving.worker" in " ".join(child.cmdline())]
        return []

    def kill(self, kind: str) -> list[int]:
        """Kill a process with SIGKILL, PostgreSQL together with its servers of connections; return the ids."""
        killed = self.workers() if kind == "worker" else [psutil.Process(self.processes[kind].pid)]
        if kind == "database":
            killed = [*killed[0].children(), *killed]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return [process.pid for process in killed]


@contextlib.contextmanager
def deployed(service: Service, cluster: PostgresCluster, *, ports: dict[str, int]) -> Iterator[Deployment]:
    config = ["--config", str(service.config_path)]
    luna = ["python", "-m", "luna_pipeline.cli"]
    commands = {
        "database": cluster.command,
        "front": [*luna, "serve", *config, "--port", str(ports["front"])],
        "receiver": [*luna, "receive", *config, "--port", str(ports["receiver"])],
    }
    environment = {**cluster.environment, **service.environment}
    with contextlib.ExitStack() as stack:
        deployment = Deployment(service, commands, environment, ports["receiver"], stack=stack)
        deployment.start("database")
        cluster.wait()
        cluster.make_databases()
        deployment.start("front")
        deployment.start("receiver")
        keeper = threading.Thread(target=deployment.keep_running)
        keeper.start()
        try:
            yield deployment
        finally:
            deployment.is_ending = True
            keeper.join()
            deployment.processes["database"].send_signal(signal.SIGINT)


def upload(address: str, folder: Path) -> str:
    """Upload a CT until it is accepted, and return the job's id."""

    def accepted() -> str | None:
        files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(f"{address}/v1/diagnoses", files=files, timeout=20)
            assert answer.status_code in (202, 429, 503), answer.text
            return answer.json()["id"] if answer.status_code == 202 else None
        return None

    return str(wait_for(accepted, limit_seconds=600, what="the answer to an upload", every_seconds=0.3))


def push(port: int, folder: Path) -> None:
    """Push a series until each of its images is accepted in one association, as a scanner does."""

    def accepted() -> bool:
        entity = AE(ae_title="SCANNER")
        entity.add_requested_context(CTImageStorage, ["1.2.840.10008.1.2.1"])
        entity.acse_timeout = entity.dimse_timeout = 10
        association = entity.associate("127.0.0.1", port, ae_title="LUNA")
        if not association.is_established:
            return False
        try:
            statuses = (association.send_c_store(pydicom.dcmread(path)).get("Status") for path in folder.iterdir())
            is_accepted = all(status == 0 for status in statuses)
        except (RuntimeError, ValueError):
            # The association has ended.
            return False
        association.release()
        return is_accepted

    wait_for(accepted, limit_seconds=600, what="the end of a push", every_seconds=0.3)


def schedule(chance: random.Random) -> list[tuple[str, float]]:
    """Return the kills, and the seconds before each."""
    kinds = [chance.choice(KINDS) for _ in range(NUM_KILLS)] if NUM_KILLS else ["receiver", "database", "front"]
    return [(kind, chance.uniform(0.5, 5) if NUM_KILLS else chance.uniform(1, 3)) for kind in kinds]


def works(deployment: Deployment, address: str, kind: str, *, killed: Collection[int] = ()) -> Callable[[], bool]:
    """Return a function that says whether what was killed works again."""

    def answer() -> bool:
        if kind == "worker":
            return any(worker.pid not in killed for worker in deployment.workers())
        if deployment.processes[kind].pid in killed:
            return False
        if kind == "receiver":
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", deployment.receiver_port), 5):
                return True
            return False
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{address}/ready", timeout=10).status_code == 200
        return False

    return answer


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """A PostgreSQL server that does not run yet."""
    passwords = {f"{name}POSTGRES_PASSWORD": "secret" for name in ("", "DAGSTER_", "MLFLOW_", "JOBS_")}
    environment = {**passwords, "PATH": f"{POSTGRES_BIN}:{os.environ['PATH']}"}
    cluster = PostgresCluster.in_new_folder(port=free_port(), environment=environment)
    cluster.initialize()
    yield cluster
    shutil.rmtree(cluster.folder, ignore_errors=True)


@pytest.fixture
def pacs() -> Iterator[Archive]:
    with archive() as found:
        yield found


@pytest.fixture
def service(tmp_path: Path, cluster: PostgresCluster, pacs: Archive) -> Service:
    config = {
        "database": f"postgresql://jobs:secret@127.0.0.1:{cluster.port}/jobs",
        "receiver": {"quiet_seconds": 3.0, "unfinished_seconds": 15.0},
        "max_queued": 2 * NUM_CTS,
        "peers": [{"name": "pacs", "kind": "cstore", "port": pacs.port, "aet": "ARCHIVE"}],
    }
    return Service(tmp_path, config)


def kill_while_sending(
    deployment: Deployment, address: str, senders: list[threading.Thread], chance: random.Random
) -> dict[str, list[float]]:
    """Start the senders one by one between the kills; return the seconds of each recovery by kind."""
    recoveries: dict[str, list[float]] = {kind: [] for kind in KINDS}
    kills = schedule(chance)
    for number, sender in enumerate(senders):
        sender.start()
        for kind, pause in kills[number * len(kills) // len(senders) : (number + 1) * len(kills) // len(senders)]:
            time.sleep(pause)
            killed = deployment.kill(kind)
            began = time.monotonic()
            is_back = works(deployment, address, kind, killed=killed)
            wait_for(is_back, limit_seconds=180, what=f"the recovery of the {kind}")
            recoveries[kind].append(time.monotonic() - began)
    return recoveries


def shown(recoveries: dict[str, list[float]]) -> str:
    return ", ".join(
        f"{kind} {len(found)} x (median {statistics.median(found):.1f} s, longest {max(found):.1f} s)"
        for kind, found in recoveries.items()
        if found
    )


def test_nothing_is_lost_or_doubled_by_kills(service: Service, cluster: PostgresCluster, pacs: Archive, tmp_path: Path):
    seed = int(os.environ.get("LUNA_TEST_SEED", "0"))
    chance = random.Random(seed)
    ports = {"front": free_port(), "receiver": free_port()}
    address = f"http://127.0.0.1:{ports['front']}"
    series = [phantom_ct(tmp_path / "phantoms", number, is_dicom=True) for number in range(NUM_CTS)]
    volumes = [phantom_ct(tmp_path / "phantoms", 100 + number) for number in range(NUM_CTS)]
    with deployed(service, cluster, ports=ports) as deployment:
        is_ready = works(deployment, address, "front")
        wait_for(is_ready, limit_seconds=180, what="the service")
        senders = [threading.Thread(target=push, args=(ports["receiver"], folder)) for folder in series]
        senders += [threading.Thread(target=upload, args=(address, folder)) for folder in volumes]
        chance.shuffle(senders)
        recoveries = kill_while_sending(deployment, address, senders, chance)
        began = time.monotonic()
        for sender in senders:
            sender.join()
        wait_for(is_ready, limit_seconds=180, what="the service")
        with service.jobs() as jobs:
            wait_for(lambda: len(jobs.list()) >= len(senders), limit_seconds=60, what="all jobs", every_seconds=0.3)
            ended = [wait_until_ended(jobs, job.id, limit_seconds=600) for job in jobs.list()]
            seconds = time.monotonic() - began
            to_deliver = [job.id for job in ended if job.state == "done" and job.origin == "dicom"]
            wait_for(
                # A delivery that has not begun is not listed.
                lambda: all([each.state for each in jobs.get(job_id).deliveries] == ["sent"] for job_id in to_deliver),
                limit_seconds=300,
                what="all deliveries",
                every_seconds=0.5,
            )
            workflows = jobs._client.list_workflows(name="diagnose")
    states = {state: sum(job.state == state for job in ended) for state in ENDED}
    print(f"\nseed {seed}: kills and recoveries: {shown(recoveries)}; {len(senders)} CTs: {states}, ", end="")
    print(f"all {seconds:.1f} s after the last recovery")
    assert len(ended) == len(workflows) == len(senders)
    assert sorted(job.origin for job in ended) == ["dicom"] * NUM_CTS + ["http"] * NUM_CTS
    objects = {(each.SOPClassUID, each.SOPInstanceUID) for each in pacs.stored}
    print(f"{len(pacs.stored)} transfers of {len(objects)} objects to the archive")
    assert len(objects) == 2 * len(to_deliver), "one segmentation and one report of each series"
    for job in ended:
        assert job.state == "done" or LOST_WORKERS in (job.reason or ""), job
        output = service.folders.job(job.id) / "output"
        assert (output / "diagnosis.json").exists() is (job.state == "done")
    # Uploads that a killed front has left are removed once they are old.
    service.folders.remove_old_staging(0)
    left = [path for folder in (service.folders.staging, service.folders.receiving) for path in folder.rglob("*")]
    assert [path for path in left if path.is_file() and path.name != ".lock"] == []
