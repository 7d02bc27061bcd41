import errno
import math
import os
import resource
import zipfile
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.models.base import EpochProgress, SplitResult
from luna_pipeline.core.storage.files import read_bytes, write_bytes, written_atomically
from luna_pipeline.core.storage.s3 import RemoteStoreError, remote_path
from luna_pipeline.core.storage.tables import write_table
from luna_pipeline.core.training.checkpoint_file import FORMAT_VERSION, write_checkpoint
from luna_pipeline.core.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from luna_pipeline.core.training.recipes import demo, nodule_baseline
from luna_pipeline_tests.processes import in_four_processes
from luna_pipeline_tests.s3_server import forget_connections

NAN = torch.tensor([math.nan])
DECISION = Decision.of(np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.25, 0.4, 0.6, 0.9]))


def make_checkpoint(**changes) -> Checkpoint:
    linear = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(linear.parameters(), betas=(0.8, 0.9))
    linear(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    values = {
        "name": "classification",
        "version": "0.0.1",
        "config": demo(),
        "model_state": linear.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "scheduler_state": {"last_epoch": 2, "_last_lr": [0.1]},
        "epoch": 2,
        "num_samples_seen": 812,
        "best_score": 0.75,
        "decision": DECISION,
        "training_seconds": 12.5,
        "rng_state": {"0/cpu": torch.get_rng_state()},
        "training_series": ["1.2", "1.3"],
        "validation_series": [],
        "training_candidate_ids": torch.tensor([-(2**63), 5, 2**63 - 1]),
        "data_fingerprint": "ab" * 32,
        "mlflow_run_id": None,
        "notes": "Trained without validation.",
    }
    return Checkpoint(**{**values, **changes})


def save(path, **changes):
    save_checkpoint(path, make_checkpoint(**changes))
    return path


def rewrite(path, change):
    """Load the raw content, change it, and write it back as torch does."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def equal(left, right) -> bool:
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right and type(left) is type(right)


def test_every_entry_comes_back_as_it_was(tmp_path):
    written = make_checkpoint()
    save_checkpoint(tmp_path / "best.pt", written)
    read = load_checkpoint(tmp_path / "best.pt")
    names = [f.name for f in fields(read) if f.name != "progress"]
    assert [name for name in names if not equal(getattr(read, name), getattr(written, name))] == []


@pytest.mark.parametrize("num_samples", [0, 3])
def test_the_progress_of_an_epoch_comes_back_as_it_was(tmp_path, num_samples):
    whole, real = np.arange(num_samples), np.linspace(0, 1, num_samples)
    result = SplitResult(whole, whole % 2, real, real + 1, whole % 3) if num_samples else None
    read = load_checkpoint(save(tmp_path / "last.pt", progress=EpochProgress(4, result))).progress
    assert read.num_batches == 4
    assert (read.result is None) is (result is None)
    for name in SplitResult.__slots__ if result else ():
        np.testing.assert_array_equal(getattr(read.result, name), getattr(result, name), err_msg=name)


def test_a_score_that_is_nan_stays_nan(tmp_path):
    assert math.isnan(load_checkpoint(save(tmp_path / "last.pt", best_score=math.nan)).best_score)


def test_saving_replaces_the_older_file_and_leaves_no_other(tmp_path):
    save(tmp_path / "last.pt", epoch=1)
    assert load_checkpoint(save(tmp_path / "last.pt", epoch=2)).epoch == 2
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_failed_save_leaves_the_older_file(tmp_path):
    path = save(tmp_path / "last.pt", epoch=1)
    with pytest.raises(AttributeError):
        save(path, epoch=2, notes=lambda: None)  # no plain value: torch.save fails in the middle
    assert load_checkpoint(path).epoch == 1
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_missing_file_is_said_with_its_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"got no file best.pt \\(folder {tmp_path}\\)"):
        load_checkpoint(tmp_path / "best.pt")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.99])
def test_a_truncated_file_is_said_to_be_damaged(tmp_path, share):
    path = save(tmp_path / "best.pt")
    content = path.read_bytes()
    path.write_bytes(content[: math.ceil(share * len(content))])
    with pytest.raises(CheckpointError, match="The checkpoint must be whole, got") as refusal:
        load_checkpoint(path)
    assert "\n" not in str(refusal.value)


def test_an_overwritten_byte_of_a_weight_is_said_to_be_damaged(tmp_path):
    path = save(tmp_path / "best.pt", model_state={"weight": torch.full((500,), 7.0)})
    content = path.read_bytes()
    weights = torch.full((500,), 7.0).numpy().tobytes()
    path.write_bytes(content.replace(weights, weights[:-1] + b"\x00"))
    with pytest.raises(CheckpointError, match="data/0 missing or damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", ["text", "numpy", "state dict", "pickled class", "legacy pickle"])
def test_a_file_of_another_kind_is_said_to_be_none(tmp_path, kind):
    path = tmp_path / "other.pt"
    if kind == "text":
        path.write_text("name,version\n")
    elif kind == "numpy":
        np.savez(path.with_suffix(".npz"), a=np.zeros(3))
        path = path.with_suffix(".npz")
    elif kind == "state dict":
        torch.save({"weight": torch.zeros(2)}, path)
    else:
        torch.save({"format": zipfile.ZipInfo}, path, _use_new_zipfile_serialization=kind == "pickled class")
    with pytest.raises(CheckpointError, match="must be a checkpoint of luna_pipeline, got") as refusal:
        load_checkpoint(path)
    assert "\n" not in str(refusal.value)


def test_another_format_version_is_named(tmp_path):
    path = save(tmp_path / "best.pt")
    rewrite(path, lambda content: content.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(CheckpointError, match="format version must be 2 or 3, got 4"):
        load_checkpoint(path)


def test_other_entries_and_another_configuration_are_named(tmp_path):
    path = save(tmp_path / "best.pt")
    rewrite(path, lambda content: content.pop("decision"))
    with pytest.raises(CheckpointError, match="entries of its format, got other decision"):
        load_checkpoint(path)
    path = save(tmp_path / "best.pt")
    rewrite(path, lambda content: content["config"]["network"].update(block="resnet"))
    with pytest.raises(CheckpointError, match=r"configuration and decision must be readable, got: network.block"):
        load_checkpoint(path)
    path = save(tmp_path / "best.pt")
    rewrite(path, lambda content: content["decision"].pop("temperature"))
    with pytest.raises(CheckpointError, match=r"must be readable, got: A decision must hold \['isotonic_prob"):
        load_checkpoint(path)


def test_a_file_of_format_2_has_its_one_threshold_and_no_calibration(tmp_path):
    path = save(tmp_path / "best.pt")

    def as_it_was(content):
        del content["decision"], content["training_seconds"], content["has_unknown_origin"]
        content.update(format_version=2, threshold=0.25)

    rewrite(path, as_it_was)
    read = load_checkpoint(path)
    assert (read.threshold, read.decision) == (0.25, Decision.at(0.25))
    assert math.isnan(read.training_seconds)
    rewrite(path, lambda content: content.pop("threshold"))
    with pytest.raises(CheckpointError, match="got other decision, has_unknown_origin, training_seconds"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("series", "start", "inherited", "is_unknown"),
    [
        (["1.2"], None, [], False),
        # Imported weights, and a run that started with them.
        ([], None, [], True),
        (["1.2"], "book_nodule_classifier", [], True),
        (["1.2"], "nodule_classifier", ["1.3"], False),
    ],
)
def test_of_a_file_of_format_2_it_is_known_whether_its_weights_come_from_elsewhere(
    tmp_path, series, start, inherited, is_unknown
):
    path = save(tmp_path / "best.pt")

    def as_it_was(content):
        del content["decision"], content["training_seconds"], content["has_unknown_origin"]
        content.update(format_version=2, threshold=0.25, training_series=series, inherited_training_series=inherited)
        content["config"]["start"] |= {"name": start, "version": start and "1"}

    rewrite(path, as_it_was)
    assert load_checkpoint(path).has_unknown_origin == is_unknown


def test_the_threshold_is_that_of_the_decision(tmp_path):
    read = load_checkpoint(save(tmp_path / "best.pt"))
    assert read.decision == DECISION
    assert read.threshold == DECISION.threshold == 0.6


@pytest.mark.seed_defect(53, 54, 57)
@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("bias"),
        lambda state: state.update(gain=torch.zeros(2)),
        lambda state: state.update(weight=torch.zeros(2, 4)),
        lambda state: [state.update({f"module.{name}": state.pop(name)}) for name in list(state)],
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(change):
    module, state = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2).state_dict()
    before = module.weight.clone()
    change(state)
    with pytest.raises(CheckpointError, match=r"Weights must fit the network, got .* \(classification 0.0.1\)"):
        load_weights(module, state, origin="classification 0.0.1")
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize(
    ("prefix", "wrapper"), [("module.", "DistributedDataParallel"), ("_orig_mod.", "torch.compile")]
)
def test_weights_of_a_wrapped_network_are_refused_with_their_reason(prefix, wrapper):
    state = {f"{prefix}{name}": value for name, value in torch.nn.Linear(3, 2).state_dict().items()}
    with pytest.raises(
        CheckpointError, match=f"All names start with '{prefix}': .*{wrapper}. Save `network.{prefix}state"
    ):
        load_weights(torch.nn.Linear(3, 2), state, origin="here")


def test_weights_that_fit_are_loaded():
    module, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    load_weights(module, other.state_dict(), origin="here")
    assert torch.equal(module.weight, other.weight)


@pytest.fixture(params=["local", "remote"])
def store(request, tmp_path) -> CheckpointStore:
    """A store of each kind: both must behave alike."""
    if request.param == "local":
        return CheckpointStore(tmp_path)
    return CheckpointStore(remote_path(request.getfixturevalue("s3_home")), locks=tmp_path / "locks")


@pytest.mark.seed_defect(55)
def test_files_are_named_once(tmp_path):
    assert CheckpointStore(tmp_path).path("classification", "0.0.1") == tmp_path / "classification/0.0.1/best.pt"


@pytest.mark.seed_defect(67)
def test_a_claimed_version_is_never_given_again(store):
    claims = [store.claim("classification", version) for version in ("0.0.1", "0.0.1", "0.0.2", "0.0.1")]
    assert claims == ["0.0.1", "0.0.1+1", "0.0.2", "0.0.1+2"]
    assert store.claim("malignant classification", "0.0.1") == "0.0.1"


def test_claims_at_the_same_moment_differ(store):
    claims = in_four_processes(store.claim, [("classification", "1")] * 12)
    assert len(set(claims)) == 12


def killed_after_claim(store, version):
    """Claim a version and end the claim as the death of the process does: its folder stays, without a file."""
    claimed = store.claim("classification", version)
    store.end_claim("classification", claimed)
    return claimed


def test_a_version_whose_process_was_killed_before_a_checkpoint_is_taken_up_once(store):
    assert killed_after_claim(store, "0.0.1") == "0.0.1"
    assert [store.claim("classification", "0.0.1") for _ in range(2)] == ["0.0.1", "0.0.1+1"]


def test_a_version_with_a_file_or_of_a_living_process_is_not_taken_up(store):
    killed_after_claim(store, "0.0.1")
    save(store.path("classification", "0.0.1", "last"))
    killed_after_claim(store, "0.0.2")
    with store.locked("classification", "0.0.2"):
        assert [store.claim("classification", version) for version in ("0.0.1", "0.0.2")] == ["0.0.1+1", "0.0.2+1"]


def test_a_claim_in_s3_of_another_machine_is_not_taken_up(s3_home, tmp_path):
    here, there = (CheckpointStore(remote_path(s3_home), locks=tmp_path / machine) for machine in ("here", "there"))
    assert killed_after_claim(there, "0.0.1") == "0.0.1"
    assert here.claim("classification", "0.0.1") == "0.0.1+1"
    assert there.claim("classification", "0.0.1") == "0.0.1"


@pytest.mark.parametrize("version", ["", "../0.0.1", "a/b", ".hidden", "0\n1"])
def test_a_version_that_is_no_folder_name_is_refused(tmp_path, version):
    with pytest.raises(ValueError, match="A checkpoint's version must be letters"):
        CheckpointStore(tmp_path).claim("classification", version)


def test_versions_are_in_the_order_of_their_numbers(store):
    assert store.versions("classification") == []
    for version in ("0.0.10", "0.0.9", "0.0.9", "0.0.10"):
        store.claim("classification", version)
    assert store.versions("classification") == ["0.0.9", "0.0.9+1", "0.0.10", "0.0.10+1"]


def test_latest_is_the_run_that_was_completed_last(tmp_path):
    store = CheckpointStore(tmp_path)
    with pytest.raises(FileNotFoundError, match="A run of 'classification' must be complete, got none"):
        store.latest("classification")
    for seconds, (version, kind) in enumerate([("0.0.2", "best"), ("0.0.1", "best"), ("0.0.3", "last")]):
        path = save(store.path("classification", version, kind))
        os.utime(path, (seconds, seconds))
    assert store.latest("classification") == "0.0.1"


def test_latest_of_two_in_the_same_second_is_the_newer_version(tmp_path):
    store = CheckpointStore(tmp_path)
    for version in ("0.0.10", "0.0.9"):
        os.utime(save(store.path("classification", version)), (7, 7))
    assert store.latest("classification") == "0.0.10"


def test_a_version_that_came_to_nothing_is_free_again_and_one_with_a_file_is_not(store):
    assert store.claim("classification", "1") == "1"
    store.release("classification", "1")
    assert store.claim("classification", "1") == "1"
    save(store.path("classification", "1", "last"))
    store.release("classification", "1")
    assert store.claim("classification", "1") == "1+1"


def test_unfinished_is_a_last_without_a_best_of_the_same_configuration_and_data(store):
    data = "ab" * 32
    store.claim("classification", "0.0.0")
    save(store.path("classification", "0.0.1", "last"), version="0.0.1")
    save(store.path("classification", "0.0.2", "last"), version="0.0.2")
    save(store.path("classification", "0.0.2", "best"), version="0.0.2")
    write_bytes(store.path("classification", "0.0.3", "last"), b"")
    assert store.unfinished("classification", demo().digest, data).version == "0.0.1"
    assert store.unfinished("classification", replace(demo(), seed=1).digest, data) is None
    assert store.unfinished("classification", nodule_baseline().digest, data) is None
    assert store.unfinished("classification", demo().digest, "cd" * 32) is None
    assert store.unfinished("other", demo().digest, data) is None


def test_a_version_in_training_is_neither_unfinished_nor_to_be_had(store):
    data = "ab" * 32
    save(store.path("classification", "0.0.1", "last"))
    with store.locked("classification", "0.0.1"):
        assert store.unfinished("classification", demo().digest, data) is None
        with (
            pytest.raises(BlockingIOError, match="got another that trains it"),
            store.locked("classification", "0.0.1"),
        ):
            pass
    assert store.unfinished("classification", demo().digest, data) is not None


def test_of_several_unfinished_runs_the_newest_version_is_continued(store):
    for version in ("0.0.9", "0.0.10", "0.0.2"):
        save(store.path("classification", version, "last"), version=version)
    assert store.unfinished("classification", demo().digest, "ab" * 32).version == "0.0.10"


def test_a_checkpoint_in_s3_is_whole_or_said_to_be_damaged_or_missing(s3_home):
    path = remote_path(s3_home) / "classification/0.0.1/best.pt"
    with pytest.raises(FileNotFoundError, match=r"must exist, got no file best\.pt"):
        load_checkpoint(path)
    save(path, epoch=3)
    assert load_checkpoint(path).epoch == 3
    write_bytes(path, read_bytes(path)[:-100])
    with pytest.raises(CheckpointError, match="The checkpoint must be whole, got"):
        load_checkpoint(path)


def test_latest_in_s3_is_the_run_that_was_completed_last(s3_home, tmp_path):
    store = CheckpointStore(remote_path(s3_home), locks=tmp_path)
    for version in ("0.0.1", "0.0.2"):
        save(store.path("classification", version))
    save(store.path("classification", "0.0.3", "last"))
    assert store.latest("classification") == "0.0.2"


def test_locks_in_s3_are_refused():
    store = CheckpointStore(remote_path("s3://bucket/home"))
    with pytest.raises(ValueError, match="Locks must lie on this machine"), store.locked("classification", "1"):
        pass


def test_a_store_that_cannot_be_reached_is_no_store_without_runs(s3_home, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    forget_connections()
    store = CheckpointStore(remote_path(s3_home))
    for ask in (store.latest, store.versions, lambda name: store.claim(name, "1")):
        with pytest.raises(RemoteStoreError):
            ask("classification")


def test_a_run_whose_last_checkpoint_cannot_be_read_is_told_and_passed_over(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    path = store.path("classification", store.claim("classification", "0.0.1"), "last")
    whole = save(path).read_bytes()
    path.write_bytes(whole[:-40])
    assert store.unfinished("classification", demo().digest, "ab" * 32) is None
    assert "The run classification 0.0.1 cannot be resumed: The checkpoint must be whole" in caplog.text


@pytest.mark.parametrize("num_values", [10, 2_000_000])
def test_a_full_disk_is_an_os_error_however_torch_reports_it(num_values):
    checkpoint = make_checkpoint(model_state={"weight": torch.zeros(num_values)})
    with (
        open("/dev/full", "wb", buffering=0) as file,
        pytest.raises(OSError, match="No space left on device") as caught,
    ):
        write_checkpoint(file, checkpoint)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("kind", ["checkpoint", "arrays", "table", "bytes"])
def test_a_write_that_fails_names_its_path_in_one_line_and_keeps_the_old_file(tmp_path, kind):
    path = tmp_path / "file"
    writers = {
        "checkpoint": lambda: save(path, model_state={"weight": torch.zeros(2_000_000)}),
        "arrays": lambda: _write_arrays(path),
        "table": lambda: write_table(path, pd.DataFrame({"value": np.arange(400_000)})),
        "bytes": lambda: write_bytes(path, b"1" * 2_000_000),
    }
    write_bytes(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            writers[kind]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == f"[Errno {errno.EFBIG}] File too large: '{path}'"
    assert os.listdir(tmp_path) == ["file"]
    assert read_bytes(path) == b"old"


def _write_arrays(path):
    with written_atomically(path) as file:
        np.savez(file, values=np.zeros(400_000))


@pytest.mark.parametrize("state", [{"model_state": {"w": NAN}}, {"optimizer_state": {"m": NAN}}])
def test_nan_is_not_written_and_the_old_file_stays(tmp_path, state):
    path = save(tmp_path / "last.pt")
    before = read_bytes(path)
    with pytest.raises(FloatingPointError, match=r"must be finite, got nan in .* \(epoch 2\)"):
        save(path, **state)
    assert read_bytes(path) == before
    assert os.listdir(tmp_path) == ["last.pt"]
