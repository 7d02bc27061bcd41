"""``luna receive`` and workers as processes that are killed, and a peer that is away: nothing is lost or doubled."""

import re
import signal
import sys
from pathlib import Path

import pydicom
import pytest

from luna_pipeline.serving.folders import INPUT
from luna_pipeline_tests.processes import REPOSITORY, free_port, started, wait_for
from luna_pipeline_tests.serving.dicom.archives import archive
from luna_pipeline_tests.serving.dicom.pushing import associated, dcmtk, images, push, receiver_process
from luna_pipeline_tests.serving.services import Service, phantom_ct, wait_until_ended

pytestmark = pytest.mark.slow


def test_a_killed_receiver_loses_nothing_that_it_answered(tmp_path: Path):
    service, port = Service(tmp_path, {"receiver": {"quiet_seconds": 1, "unfinished_seconds": 8}}), free_port()
    interrupted, left = images(tmp_path / "1", "1.2.3", number=6), images(tmp_path / "2", "1.2.4", seed=1)
    with service.jobs() as jobs:
        with receiver_process(service, port) as process:
            assert push(port, left) == [0] * 4
            with associated(port) as association:
                assert [association.send_c_store(dataset).Status for dataset in interrupted[:4]] == [0] * 4
                process.kill()
                assert "Status" not in association.send_c_store(interrupted[4])
        with receiver_process(service, port) as process:
            # As a peer that repeats what was not answered.
            assert push(port, interrupted[4:]) == [0] * 2
            wait_for(lambda: len(jobs.list()) == 2, limit_seconds=20, what="both jobs")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        found = {
            frozenset(str(pydicom.dcmread(path).SOPInstanceUID) for path in (folder / INPUT).iterdir())
            for folder in service.folders.jobs.iterdir()
        }
    assert found == {frozenset(str(dataset.SOPInstanceUID) for dataset in series) for series in (interrupted, left)}


def test_the_commands_of_the_page_on_dicom_run_as_they_stand_there(tmp_path: Path):
    """But for the port, which must be free."""
    page = (REPOSITORY / "docs/how_to/dicom.md").read_text()
    (receive, push_it), port = re.findall(r"```sh\n(.*?)```", page, re.DOTALL), str(free_port())
    service = Service(tmp_path)
    service.config_path.write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert [peer.kind for peer in service.config.peers] == ["cstore", "stow"]
    images(tmp_path / "ct", "1.2.3")
    receive, push_it = (text.replace("11112", port).strip() for text in (receive, push_it))
    begin = f"cd {tmp_path}; PATH=/usr/bin:$PATH"
    waits = "until echoscu -aec LUNA 127.0.0.1 $PORT; do sleep 0.2; done".replace("$PORT", port)
    script = f"{begin}; $LUNA {receive.removeprefix('luna ')}\n{waits}\nset -e\n{push_it}\nkill -TERM $!; wait $!"
    environment = service.environment | {"LUNA": str(Path(sys.executable).with_name("luna"))}
    with started(["bash", "-c", script], environment=environment, log=tmp_path / "log") as process:
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert len(list(service.folders.receiving.rglob("*.dcm"))) == 4


def test_results_reach_a_peer_that_was_away_while_the_worker_was_killed(tmp_path: Path):
    """Pushed by DCMTK; SEG and SR arrive once, and refer to the series."""
    pacs_port, port = free_port(), free_port()
    peer = {"name": "pacs", "kind": "cstore", "port": pacs_port, "aet": "ARCHIVE"}
    service = Service(tmp_path, {"receiver": {"quiet_seconds": 1}, "peers": [peer]})
    ct = phantom_ct(tmp_path / "phantoms", 5, is_dicom=True)
    with service.jobs() as jobs, receiver_process(service, port):
        with service.worker() as worker:
            done = dcmtk("storescu", "--scan-directories", "-aec", "LUNA", "127.0.0.1", port, ct)
            assert done.returncode == 0, done.stderr
            wait_for(jobs.list, limit_seconds=20, what="the job")
            job = wait_until_ended(jobs, jobs.list()[0].id)
            assert job.state == "done", job.reason
            wait_for(lambda: jobs.get(job.id).deliveries, limit_seconds=20, what="the first attempt")
            (delivery,) = jobs.get(job.id).deliveries
            assert (delivery.peer, delivery.state) == ("pacs", "waiting")
            worker.kill()
        with archive(port=pacs_port, calling=["LUNA"]) as pacs, service.worker():
            wait_for(lambda: jobs.get(job.id).deliveries[0].state == "sent", limit_seconds=60, what="the delivery")
        assert jobs.get(job.id).deliveries[0].attempts >= 2
    assert [dataset.Modality for dataset in pacs.stored] == ["SEG", "SR"]
    (series,) = pacs.stored[0].ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.840.5.5"
    for log in ("receive.log", "worker.log"):
        assert "Traceback" not in (tmp_path / log).read_text()
