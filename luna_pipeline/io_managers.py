"""IO managers: tables as parquet files, models as checkpoints; files are written atomically."""

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
from upath import UPath

from luna_pipeline.core.storage.files import exists, sha256_of
from luna_pipeline.core.storage.table_files import read_table_file
from luna_pipeline.extensions import load_extensions
from luna_pipeline.launchers.installation import MODELS_TABLES
from luna_pipeline.settings import Settings
from luna_pipeline.table_columns import column_lineage, column_schema

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.training.checkpoints import Checkpoint
    from luna_pipeline.launchers.evaluation.fold_predictions import FoldPredictions
    from luna_pipeline.launchers.training.run import TrainedClassifier


class ParquetIOManager(dg.UPathIOManager):
    """Tables as ``LUNA_HOME/tables/<asset>.parquet``; of partitioned assets ``tables/<asset>/<fold>.parquet``."""

    extension = ".parquet"

    def make_directory(self, path: UPath) -> None:
        """Do nothing: ``write_table`` creates folders, and S3 has none."""

    def dump_to_path(self, context: dg.OutputContext, obj: "pd.DataFrame", path: UPath) -> None:
        """Check the table and write it atomically."""
        from luna_pipeline.core.storage.tables import write_table

        write_table(path, obj, name=context.asset_key.path[-1])

    def load_from_path(self, context: dg.InputContext, path: UPath) -> "pd.DataFrame":
        """Read the table; if there is none, the error names all missing inputs of the asset."""
        if not exists(path):
            raise _missing_inputs(context)
        return read_table_file(path, advice="Materialize the asset again.")

    def get_metadata(self, context: dg.OutputContext, obj: "pd.DataFrame") -> dict[str, Any]:
        """Return row count, columns and their sources for Dagster's catalogue."""
        name = context.asset_key.path[-1]
        lineage = column_lineage(name, map(str, obj.columns))
        return {
            "dagster/row_count": len(obj),
            "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(name, obj)),
            **({"dagster/column_lineage": dg.MetadataValue.column_lineage(lineage)} if lineage else {}),
        }


class ScoresIOManager(ParquetIOManager):
    """Scores of a test fold, and the models that scored it as a second table, ``MODELS_TABLES`` of the asset.

    The asset's value is a ``FoldPredictions``; its predictions are what downstream assets load.
    """

    def dump_to_path(self, context: dg.OutputContext, obj: "FoldPredictions", path: UPath) -> None:  # type: ignore[override]
        """Check both tables, and write each atomically."""
        from luna_pipeline.core.storage.tables import check_table, write_table

        models = MODELS_TABLES[context.asset_key.path[-1]]
        models_path = path.parent.parent / models / path.name
        check_table(models, obj.models)
        super().dump_to_path(context, obj.predictions, path)
        # Last: pooling refuses predictions whose table of models is older.
        write_table(models_path, obj.models, name=models)
        context.add_output_metadata({"models_path": dg.MetadataValue.path(str(models_path))})

    def get_metadata(self, context: dg.OutputContext, obj: "FoldPredictions") -> dict[str, Any]:  # type: ignore[override]
        """Return row count and schema of the predictions for Dagster's catalogue."""
        return super().get_metadata(context, obj.predictions)


class TablesIOManager(dg.ConfigurableIOManagerFactory[ParquetIOManager]):
    """Tables as parquet files below `LUNA_HOME/tables`, checked against their schemas when they are written."""

    def create_io_manager(self, context: dg.InitResourceContext) -> ParquetIOManager:
        """Read the folder from the environment when a run starts."""
        return ParquetIOManager(base_path=UPath(Settings.from_environment().tables_dir))


class ScoredFoldsIOManager(dg.ConfigurableIOManagerFactory[ScoresIOManager]):
    """Scores of a test fold and the table of the models that gave them, as parquet files below `LUNA_HOME/tables`."""

    def create_io_manager(self, context: dg.InitResourceContext) -> ScoresIOManager:
        """Read the folder from the environment when a run starts."""
        return ScoresIOManager(base_path=UPath(Settings.from_environment().tables_dir))


class CheckpointIOManager(dg.ConfigurableIOManager):
    """Trained classifiers as ``LUNA_HOME/checkpoints/<name>/<version>/best.pt``, written by the trainer.

    An output is verified, recorded in ``current_<fold>.json`` as the version that downstream assets read for its fold,
    and logged to its MLflow run.
    """

    def handle_output(self, context: dg.OutputContext, obj: "TrainedClassifier") -> None:
        """Verify the checkpoint, make it current, log it to MLflow."""
        from luna_pipeline.core.training.checkpoints import load_checkpoint
        from luna_pipeline.launchers.cross_validation import CurrentClassifier, now
        from luna_pipeline.launchers.versions import recipe_digest

        settings = Settings.from_environment()
        load_checkpoint(obj.path)
        current = CurrentClassifier(
            asset=context.asset_key.path[-1],
            test_fold=int(context.partition_key),
            version=obj.version,
            path="/".join(obj.path.parts[len(settings.home.parts) :]),
            sha256=sha256_of(obj.path),
            data_fingerprint=obj.checkpoint.data_fingerprint,
            recipe_digest=recipe_digest(obj.checkpoint.config),
            index_digest=obj.index_digest,
            dagster_run_id=context.run_id,
            made_at=now(),
        )
        current.write(settings)
        if obj.checkpoint.mlflow_run_id:
            self._note_in_mlflow(settings, obj.checkpoint.mlflow_run_id, asdict(current))
        shown = ("sha256", "data_fingerprint", "recipe_digest", "index_digest")
        path = dg.MetadataValue.path(str(obj.path))
        context.add_output_metadata({"path": path, **{name: getattr(current, name) for name in shown}})

    def load_input(self, context: dg.InputContext) -> "Checkpoint":
        """Load the current checkpoint of the upstream asset's fold.

        Raises:
            FileNotFoundError: If the fold was never materialized.
            ValueError: If the file has changed since.
        """
        from luna_pipeline.core.training.checkpoints import load_checkpoint
        from luna_pipeline.launchers.cross_validation import read_current, trained_folds

        # The network may be a user's extension.
        load_extensions()
        settings, fold = Settings.from_environment(), int(context.asset_partition_key)
        if fold not in trained_folds(settings, context.asset_key.path[-1]):
            raise _missing_inputs(context)
        current = read_current(settings, context.asset_key.path[-1], fold)
        path = settings.home / current.path
        checkpoint = load_checkpoint(path)
        if (digest := sha256_of(path)) != current.sha256:
            msg = f"Checkpoint must be the one that was trained, got SHA-256 {digest} ({path}). "
            raise ValueError(msg + f"Materialize `{current.asset}` of fold {current.test_fold} again.")
        return checkpoint

    def _note_in_mlflow(self, settings: Settings, run_id: str, record: dict[str, Any]) -> None:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(settings.mlflow_tracking_uri)
        client.log_dict(run_id, record, "checkpoint/lineage.json")
        for key in ("sha256", "asset"):
            client.set_tag(run_id, f"luna.{key}", record[key])


def _missing_inputs(context: dg.InputContext) -> FileNotFoundError:
    """Return the error that names the missing inputs of the asset that is being made, not only the one being loaded."""
    from luna_pipeline.launchers.evaluation.missing_inputs import missing_inputs

    names = [context.asset_key.path[-1]]
    # `defs.load_asset_value` loads for no asset.
    with contextlib.suppress(dg.DagsterInvariantViolationError):
        inputs = context.op_def.input_dict.items()
        # A dependency that is not loaded has the type Nothing, and may be missing.
        names = [name for name, definition in inputs if not definition.dagster_type.is_nothing]
    key = context.asset_partition_key if context.has_asset_partitions else None
    key = context.partition_key if key is None and context.has_partition_key else key
    error = missing_inputs(Settings.from_environment(), names, int(key) if key and key.isdecimal() else None)
    return error or FileNotFoundError(f"`{names[0]}` must be there, got no file. Materialize `{names[0]}` first.")
