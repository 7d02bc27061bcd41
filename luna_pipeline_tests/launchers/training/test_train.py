"""Training on the data of an installation, by requests."""

from luna_pipeline.launchers import RunOptions, TrainingRequest, train_once
from luna_pipeline.settings import Settings


def test_the_same_configuration_on_the_same_data_and_folds_is_trained_once(home, small_config):
    settings = Settings(data_dir=home.path, home=home.path, mlflow_tracking_uri="", cache_dir=home.path / "cache")
    (home.path / "tables").mkdir()
    home.index.to_parquet(settings.tables_dir / "cutout_index.parquet")

    def version_of(**changes) -> str:
        config = small_config.with_changes({name: changes.pop(name) for name in ("num_epochs",) if name in changes})
        options = {"config": config, "uses_mlflow": False, "options": RunOptions(show_progress=False), **changes}
        return train_once(settings, TrainingRequest(**options)).version

    assert version_of() == "0.0.1"
    assert version_of(num_epochs=1) == "0.0.1+1"
    assert version_of(test_fold=2) == "0.0.1+2"
    assert version_of() == "0.0.1"
    assert version_of(num_epochs=1) == "0.0.1+1"
    (settings.checkpoints_dir / "nodule_classifier/0.0.1/best.pt").write_bytes(b"damaged")
    assert version_of() == "0.0.1+3"
