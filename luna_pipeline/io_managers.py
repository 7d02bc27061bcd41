"""How assets are kept: tables as parquet, models as checkpoints; each file whole or not there."""

import json
from typing import TYPE_CHECKING, Any

import dagster as dg
from upath import UPath

from luna_pipeline.core.files import content_of, exists, read_bytes, sha256_of, write_bytes
from luna_pipeline.extensions import load_extensions
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.training.checkpoints import Checkpoint
    from luna_pipeline.launchers import TrainedClassifier


class ParquetIOManager(dg.UPathIOManager):
    """Tables as ``LUNA_HOME/tables/<asset>.parquet``."""

    extension = ".parquet"

    def make_directory(self, path: UPath) -> None:
        """Do nothing: whoever writes a file makes its folder, and S3 has none."""

    def dump_to_path(self, context: dg.OutputContext, obj: "pd.DataFrame", path: UPath) -> None:
        """Check the table and write it, whole or not at all."""
        from luna_pipeline.core.schemas import write_table

        write_table(path, obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> "pd.DataFrame":
        """Read the table whole."""
        import pandas as pd

        return pd.read_parquet(content_of(path))

    def get_metadata(self, context: dg.OutputContext, obj: "pd.DataFrame") -> dict[str, Any]:
        """Rows and schema, as Dagster's catalogue shows them."""
        columns = [dg.TableColumn(str(name), str(dtype)) for name, dtype in obj.dtypes.items()]
        return {
            "dagster/row_count": len(obj),
            "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        }


class TablesIOManager(dg.ConfigurableIOManagerFactory[ParquetIOManager]):
    """Makes the table IO manager for the LUNA_HOME of the moment."""

    def create_io_manager(self, context: dg.InitResourceContext) -> ParquetIOManager:
        """Look the folder up when a run starts."""
        return ParquetIOManager(base_path=UPath(Settings.from_environment().tables_dir))


class CheckpointIOManager(dg.ConfigurableIOManager):
    """Trained classifiers as ``LUNA_HOME/checkpoints/<name>/<version>/best.pt``, with the version in use beside them.

    The trainer keeps checkpoints while it runs; what is handed over here is verified, becomes the version that
    downstream assets read (``current.json``), and is noted in its MLflow run.
    """

    def handle_output(self, context: dg.OutputContext, obj: "TrainedClassifier") -> None:
        """Verify the checkpoint, make it current, note it in MLflow."""
        from luna_pipeline.core.training.checkpoints import load_checkpoint

        settings = Settings.from_environment()
        load_checkpoint(obj.path)
        record = {
            "version": obj.version,
            "path": "/".join(obj.path.parts[len(settings.home.parts) :]),
            "sha256": sha256_of(obj.path),
            "data_fingerprint": obj.checkpoint.data_fingerprint,
            "dagster_run_id": context.run_id,
            "asset": context.asset_key.to_user_string(),
        }
        content = json.dumps(record, indent=1, sort_keys=True).encode()
        write_bytes(settings.checkpoints_dir / obj.checkpoint.name / "current.json", content)
        if obj.checkpoint.mlflow_run_id:
            self._note_in_mlflow(settings, obj.checkpoint.mlflow_run_id, record)
        context.add_output_metadata(
            {
                "path": dg.MetadataValue.path(str(obj.path)),
                "sha256": record["sha256"],
                "data_fingerprint": record["data_fingerprint"],
            }
        )

    def load_input(self, context: dg.InputContext) -> "Checkpoint":
        """Load the current checkpoint of the upstream asset, strictly.

        Raises:
            FileNotFoundError: If that asset was never materialised.
            ValueError: If the file is not the one that was made current.
        """
        from luna_pipeline.core.training.checkpoints import load_checkpoint

        # Its network may be one of a user's own.
        load_extensions()
        settings = Settings.from_environment()
        name = context.asset_key.path[-1]
        pointer = settings.checkpoints_dir / name / "current.json"
        if not exists(pointer):
            msg = f"Classifier must be trained before it is used, got no {pointer.name} (in {pointer.parent}). "
            raise FileNotFoundError(msg + f"Materialize `{name}` first.")
        record = json.loads(read_bytes(pointer))
        path = settings.home / record["path"]
        checkpoint = load_checkpoint(path)
        if (digest := sha256_of(path)) != record["sha256"]:
            msg = f"Checkpoint must be the one that was trained, got SHA-256 {digest} ({path}). "
            raise ValueError(msg + f"Materialize `{name}` again.")
        return checkpoint

    def _note_in_mlflow(self, settings: Settings, run_id: str, record: dict[str, str]) -> None:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(settings.mlflow_tracking_uri)
        client.log_dict(run_id, record, "checkpoint/lineage.json")
        for key in ("data_fingerprint", "sha256", "asset"):
            client.set_tag(run_id, f"luna.{key}", record[key])
