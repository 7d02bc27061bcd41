"""Malformed cutout files, checkpoints and configurations are refused in one line and harm no other."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.cutout_maintenance import verify_cutouts
from luna_pipeline.launchers.training.train import configured
from luna_pipeline.settings import Settings
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.fuzz.ct_roots import complaints_about
from luna_pipeline_tests.fuzz.home_files import checkpoint, configuration, cutout, cutout_file, store_entry
from luna_pipeline_tests.fuzz.inputs import Malformed
from luna_pipeline_tests.fuzz.limits import complaint_of, limited
from luna_pipeline_tests.fuzz.settings import batches, report

GOOD = {"1.2.1": 0, "1.2.2": 1}


def in_a_folder(check: Callable[[Sequence[Malformed], Path], list[str]]) -> Callable[[Sequence[Malformed]], list[str]]:
    def checked(inputs: Sequence[Malformed]) -> list[str]:
        place = Path(tempfile.mkdtemp(prefix="fuzz"))
        try:
            with limited():
                return check(inputs, place)
        finally:
            # Python's own removal recurses, too deep for one of the inputs.
            subprocess.run(["rm", "-rf", str(place)], check=True)

    return checked


def check_cutouts(inputs: Sequence[Malformed], place: Path) -> list[str]:
    """Verify a home with whole cutout files and these: each damage is told in one line, and no file is read with it."""
    home = place / "home/cutouts"
    _, store = write_examples(home, folds=GOOD, num_per_series=3, shape_irc=(2, 3, 4))
    for item in inputs:
        item.write(home)
    settings = Settings.from_environment({"LUNA_HOME": str(place / "home"), "LUNA_CACHE": str(place / "cache")})
    lines: list[str] = []
    damaged = verify_cutouts(settings, repair=False, report=lines.append)
    assert not damaged.keys() & GOOD.keys()
    for uid in GOOD:
        store.read(uid)
    found = [f"{line[:400]!r} must be one line" for line in lines if "\n" in line]
    for item in inputs:
        about = f"{item.name} ({item.change})"
        content = item.files.get(f"{item.uid}.npz")
        reason = damaged.get(item.uid)
        if reason is not None and (complaint := complaint_of(reason)):
            found.append(f"{about}: {complaint}")
        if content is not None:
            found += [f"{about}: {text}" for text in read_complaints(home, item.uid, content, reason)]
    return found


def read_complaints(folder: Path, uid: str, content: bytes, reason: str | None) -> list[str]:
    """Return what is wrong with reading a file that verify_cutouts calls damaged for a reason, or whole (None)."""
    whole = cutout_file(uid)
    try:
        cutouts = CutoutStore(folder).read(uid)
        chunks = np.asarray(cutouts.ct_chunks)
    except (ValueError, OSError) as error:
        told = complaint_of(str(error))
        return [told] if told else [f"whole, but not read: {error}"] if reason is None else []
    if reason is None and len(content) == len(whole) and content != whole and chunks.shape == (3, 2, 3, 4):
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / f"{uid}.npz").write_bytes(whole)
            if np.array_equal(chunks, np.asarray(CutoutStore(Path(place)).read(uid).ct_chunks)):
                return []
        return ["other voxels are called whole"]
    return []


def check_checkpoints(inputs: Sequence[Malformed], place: Path) -> list[str]:
    """Load checkpoints: refused in one line, or with finite thresholds."""
    found = []
    for item in inputs:
        item.write(place / item.name)
        try:
            loaded = load_checkpoint(place / item.name / "best.pt")
        except (ValueError, OSError) as error:
            if complaint := complaint_of(str(error)):
                found.append(f"{item.name} ({item.change}): {complaint}")
            continue
        decision = loaded.decision
        thresholds = [decision.threshold, decision.threshold_f1, decision.threshold_sensitivity]
        if not np.isfinite(thresholds).all() or not isinstance(loaded.config, TrainingConfig):
            found.append(f"{item.name} ({item.change}): accepted with thresholds {thresholds}")
        if not all(isinstance(value, torch.Tensor) for value in loaded.model_state.values()):
            found.append(f"{item.name} ({item.change}): accepted with weights that are none")
    return found


def check_configurations(inputs: Sequence[Malformed], place: Path) -> list[str]:
    """Read configurations: refused in one line, or the same after a round trip."""
    found = []
    for item in inputs:
        item.write(place / item.name)
        try:
            config = configured("", place / item.name / "config.json", {})
        except (ValueError, TypeError, OSError) as error:
            if complaint := complaint_of(str(error)):
                found.append(f"{item.name} ({item.change}): {complaint}")
            continue
        if TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) != config:
            found.append(f"{item.name} ({item.change}): another configuration after a round trip")
    return found


@pytest.mark.parametrize(
    ("kind", "generator", "check"),
    [
        ("cutout", cutout, check_cutouts),
        ("store", store_entry, check_cutouts),
        ("checkpoint", checkpoint, check_checkpoints),
        ("configuration", configuration, check_configurations),
    ],
)
def test_malformed_files_of_a_home_are_refused_in_one_line(kind, generator, check):
    complaints = []
    for inputs in batches(generator, kind):
        complaints += complaints_about(inputs, in_a_folder(check))
    report(complaints)
