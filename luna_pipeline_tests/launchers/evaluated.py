"""An installation with classifiers and predictions of two of four folds, and LUNA16's tables."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.datasets.splits import TrainingSplit, index_fingerprint
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.storage.files import sha256_of
from luna_pipeline.core.training.checkpoints import save_checkpoint
from luna_pipeline.launchers import LunaClassificationLauncher, RunOptions, predict_test_fold
from luna_pipeline.launchers.cross_validation import CurrentClassifier, now
from luna_pipeline.launchers.evaluation.pooling import pooled_predictions
from luna_pipeline.launchers.versions import recipe_digest
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import mlflow_run
from luna_pipeline_tests.launchers.conftest import Home, make_home

FOLDS = (0, 1)
NODULE_CLASSIFIER = "nodule_classifier"
# Small, so that no candidate lies within the nodule of another.
DIAMETER_MM = 0.6
SCORES = ("probability", "calibrated")


@dataclass(frozen=True)
class Evaluated:
    """An installation for tests of evaluation."""

    home: Home
    settings: Settings

    @property
    def pooled(self):
        return pooled_predictions(self.settings, NODULE_CLASSIFIER)

    def write_table(self, place: str, table: pd.DataFrame) -> None:
        path = self.settings.tables_dir / f"{place}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)

    def sample_candidates(self) -> None:
        """Add a candidate that was not cut to each series: the cutouts are a sample of 5 of 6 candidates a series."""
        table = pd.read_parquet(self.settings.tables_dir / "candidates.parquet")
        more = table.drop_duplicates("series_instance_uid").assign(source="candidate")
        self.write_table("candidates", pd.concat([table, more.assign(candidate_id=-more["candidate_id"])]))

    def change_predictions(self, change) -> None:
        """Replace each fold's table of predictions by ``change`` of it."""
        for fold in FOLDS:
            path = self.settings.tables_dir / f"nodule_predictions/{fold}.parquet"
            change(pd.read_parquet(path)).to_parquet(path)


@pytest.fixture(scope="module")
def evaluated_source(tmp_path_factory, small_config, empty_database) -> Evaluated:
    root = tmp_path_factory.mktemp("evaluated")
    shutil.copyfile(empty_database, root / "mlflow.db")
    settings = Settings(data_dir=root / "data", home=root / "home", mlflow_tracking_uri=f"sqlite:///{root}/mlflow.db")
    made = Evaluated(make_home(root / "home"), settings)
    _write_luna16(made)
    config = replace(small_config, num_epochs=1)
    for fold in FOLDS:
        _train_and_predict(made, config.with_changes(version=f"0.0.1-fold{fold}"), fold)
    return made


@pytest.fixture
def evaluated(evaluated_source, tmp_path) -> Evaluated:
    """Return a copy for one test; copies share MLflow's artifacts."""
    source = evaluated_source.settings.home.parent
    shutil.copytree(source, tmp_path / "copy")
    uri = f"sqlite:///{tmp_path}/copy/mlflow.db"
    settings = Settings(data_dir=tmp_path / "copy/data", home=tmp_path / "copy/home", mlflow_tracking_uri=uri)
    return Evaluated(evaluated_source.home, settings)


def _write_luna16(made: Evaluated) -> None:
    home, data = made.home, made.settings.data_dir
    rows = home.index.merge(home.candidates[["candidate_id", "x_mm", "y_mm", "z_mm"]], on="candidate_id")
    nodules = rows[(rows["class"] == 1) & (rows["source"] == "candidate")]
    table = nodules[["series_instance_uid", "x_mm", "y_mm", "z_mm"]].assign(diameter_mm=DIAMETER_MM)
    data.mkdir()
    table.columns = ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
    table.to_csv(data / "annotations.csv", index=False)
    uids = sorted(rows["series_instance_uid"].unique())
    folds = rows.groupby("series_instance_uid")["fold"].first()
    made.write_table("cutout_index", home.index.assign(diameter_mm=DIAMETER_MM))
    made.write_table("candidates", home.index[["candidate_id", "series_instance_uid", "source"]])
    patients = [f"p{uid}" for uid in uids]
    of_series = {"series_instance_uid": uids, "fold": folds[uids].to_numpy(), "patient_hash": patients}
    made.write_table("folds", pd.DataFrame(of_series).assign(rule="series"))
    scans = {"series_instance_uid": uids, "spacing_mm": [[0.7, 0.7, 2.5]] * len(uids)}
    made.write_table("ct_series", pd.DataFrame(scans).assign(manufacturer="Maker", is_readable=True))


def _train_and_predict(made: Evaluated, config, fold: int) -> None:
    home, settings = made.home, made.settings

    def open_run(name: str, run_id: str | None):
        return mlflow_run(
            settings.mlflow_tracking_uri,
            experiment="a",
            system_metrics_seconds=None,
            run_name=name,
            artifact_location=settings.home.parent / "artifacts",
            run_id=run_id,
        )

    launcher = LunaClassificationLauncher(home.path, options=RunOptions(show_progress=False), open_mlflow_run=open_run)
    split = TrainingSplit(test_fold=fold, validation_fold=fold + 1)
    trained = launcher.fit(config, index=home.index, store=home.store, split=split)
    # The calibration on ten candidates after one epoch is arbitrary.
    checkpoint = replace(
        trained.checkpoint,
        decision=Decision(isotonic_scores=(0.0, 1.0), isotonic_probabilities=(0.0, 1.0), num_validation_candidates=10),
    )
    save_checkpoint(trained.path, checkpoint)
    CurrentClassifier(
        asset=NODULE_CLASSIFIER,
        test_fold=fold,
        version=trained.version,
        sha256=sha256_of(trained.path),
        path=str(trained.path.relative_to(home.path)),
        data_fingerprint=checkpoint.data_fingerprint,
        recipe_digest=recipe_digest(config),
        index_digest=index_fingerprint(home.index),
        dagster_run_id="",
        made_at=now(),
    ).write(settings)
    predicted = predict_test_fold(
        index=home.index,
        candidates=home.candidates,
        store=home.store,
        test_fold=fold,
        classifiers={NODULE_CLASSIFIER: checkpoint},
        zero_rule_score=0.4,
    )
    made.write_table(f"nodule_predictions/{fold}", predicted.predictions)
    made.write_table(f"nodule_models/{fold}", predicted.models)


def ranked_perfectly(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return predictions in which the network scores every nodule 0.99 and every other candidate 0.01."""
    is_network = predictions["model"] == NODULE_CLASSIFIER
    scores = predictions["class"].map({1: 0.99, 0: 0.01})
    return predictions.assign(**{name: predictions[name].where(~is_network, scores) for name in SCORES})


__all__ = ["Evaluated", "Path", "evaluated", "evaluated_source"]
