"""A study with its home in S3: each machine downloads cutouts once, and all results are written there."""

from dataclasses import replace

import pandas as pd
import pytest

from luna_pipeline.core.storage.files import listing, write_bytes
from luna_pipeline.core.storage.s3 import remote_path
from luna_pipeline.tuning.tune import tune_parameters
from luna_pipeline_tests.tuning.searched import request_of, searched, study_of_rates, without_times

__all__ = ["searched"]


@pytest.mark.slow
def test_a_study_in_s3_comes_to_what_it_comes_to_on_a_disk(searched, small_config, s3_home, tmp_path):
    home, settings = searched
    address = remote_path(s3_home)
    for folder in ("cutouts", "tables"):
        for path in (home.path / folder).iterdir():
            write_bytes(address / folder / path.name, path.read_bytes())
    remote = replace(settings, home=address, cache_dir=tmp_path / "s3/cache")
    study = study_of_rates(small_config, num_epochs=2)
    there = tune_parameters(remote, request_of(study, []))
    here = tune_parameters(settings, request_of(study, []))
    pd.testing.assert_frame_equal(without_times(there.table), without_times(here.table))
    assert there.winner == here.winner
    assert there.comparison == here.comparison

    kept = listing(address / "tuning/nodule_classifier/0.0.1-fold0")
    assert {"study.json", "trials.csv", "best.json", "comparison.json", "importance.png"} <= set(kept)
    assert {f"checkpoints/nodule_classifier/trial-{n:04d}/last.pt" for n in range(4)} <= set(kept)
    # Ray's state and TensorBoard logs are local; cutouts were downloaded once.
    local = tmp_path / "s3/local/tuning/nodule_classifier/0.0.1-fold0"
    assert (local / "tensorboard/nodule_classifier/trial-0000").is_dir()
    assert len(list((tmp_path / "s3/cache").rglob("*.npz"))) == 8
