"""A home with annotations in which studies are run: eight series of small cutouts in four folds."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.networks.config import LOSSES
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.settings import Settings
from luna_pipeline.tuning.request import TuningRequest
from luna_pipeline.tuning.space import Choices, SearchSpace
from luna_pipeline.tuning.study import StudyConfig
from luna_pipeline_tests.launchers.conftest import Home, make_home

RATES = (0.00001, 0.003, 0.03)
SPACE = SearchSpace({"optimizer.learning_rate": Choices(RATES)})
# A mark within it is a hit; candidates of one series lie farther apart.
DIAMETER_MM = 0.6


@pytest.fixture
def searched(tmp_path, tracking_uri) -> tuple[Home, Settings]:
    """A copy of the home, and its settings."""
    home = make_home(tmp_path / "home")
    settings = Settings(
        data_dir=tmp_path / "data", home=home.path, mlflow_tracking_uri=tracking_uri, cache_dir=tmp_path / "cache"
    )
    tables = home.path / "tables"
    tables.mkdir()
    home.index.assign(diameter_mm=DIAMETER_MM).to_parquet(tables / "cutout_index.parquet")
    home.candidates.to_parquet(tables / "candidates.parquet")
    folds = (
        home.index.groupby("series_instance_uid", as_index=False)["fold"]
        .first()
        .assign(rule="series", patient_hash=None)
    )
    folds.to_parquet(tables / "folds.parquet")
    write_annotations(home, settings)
    return home, settings


def write_annotations(home: Home, settings: Settings) -> None:
    """Annotate every candidate of class 1 at its own position."""
    rows = home.index.merge(home.candidates[["candidate_id", "x_mm", "y_mm", "z_mm"]], on="candidate_id")
    nodules = rows[(rows["class"] == 1) & (rows["source"] == "candidate")]
    table = nodules[["series_instance_uid", "x_mm", "y_mm", "z_mm"]].assign(diameter_mm=DIAMETER_MM)
    table.columns = pd.Index(["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"])
    settings.data_dir.mkdir()
    table.to_csv(settings.data_dir / "annotations.csv", index=False)


def study_of_rates(config: TrainingConfig, **changes) -> StudyConfig:
    """A grid of three learning rates; the recipe's own rate is too low to learn."""
    base = config.with_changes({"optimizer.learning_rate": 0.0001, "scheduler.name": "constant"})
    asked = {"searcher": "grid", "scheduler": "none", "num_epochs": 3, **changes}
    return StudyConfig(base=base, space=SPACE, **asked)


def request_of(study: StudyConfig, lines: list[str], **changes) -> TuningRequest:
    """A request that collects the reported lines."""
    asked = TuningRequest(study=study, test_fold=0, validation_fold=1, report=lines.append, uses_mlflow=False)
    return replace(asked, **changes)


@pytest.fixture
def breaking() -> Callable[[], None]:
    """A registered loss that fails to build."""

    def build(_config):
        msg = "this loss is broken"
        raise ZeroDivisionError(msg)

    LOSSES.register("breaking")(build)
    yield
    LOSSES.forget("breaking")


def without_times(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="seconds")


__all__ = ["RATES", "SPACE", "np", "request_of", "searched", "study_of_rates", "without_times", "write_annotations"]
