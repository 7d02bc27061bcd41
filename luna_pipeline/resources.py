"""Resources of the assets: paths, cutting parameters, MLflow runs, Ray."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from luna_pipeline.launchers.installation import EXPERIMENT
from luna_pipeline.runs.nested import PARENT_TAG
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.cutting import CuttingParameters
    from luna_pipeline.core.cutouts.selection import CandidateSelection
    from luna_pipeline.core.cutouts.service import CtCutoutService
    from luna_pipeline.core.cutouts.store import CutoutSource, CutoutStore
    from luna_pipeline.core.cutouts.workers import RunJobs
    from luna_pipeline.tracking.mlflow_run import OpenMlflowRun


class LunaPaths(dg.ConfigurableResource[None]):
    """The folders of LUNA_DATA_DIR and LUNA_HOME, looked up when a run starts."""

    @property
    def settings(self) -> Settings:
        """Folders and addresses as the environment has them now."""
        return Settings.from_environment()

    def read_table(self, name: str, fold: int | None = None) -> "pd.DataFrame":
        """Read a table that an earlier asset made.

        Args:
            name: The asset.
            fold: Its partition, where it is made fold by fold.

        Raises:
            FileNotFoundError: If that asset was never materialised.
        """
        from luna_pipeline.launchers.installation import read_table

        return read_table(self.settings, name, fold)


class CutoutCutting(dg.ConfigurableResource[None]):
    """How cutouts are cut, and where they are kept."""

    paths: LunaPaths
    chunk_shape_irc: list[int] = Field(default=[32, 48, 48], description="Voxels along index, row, col.")
    hu_window: list[int] = Field(default=[-1000, 1000], description="HU are clipped to this range.")
    edge_rule: str = Field(default="pad", description="`pad` keeps the candidate in the middle; `shift` is the book's.")
    resampled_spacing_mm: list[float] | None = Field(default=None, description="x, y, z; nothing: the CT's own.")
    training_length: int | None = Field(default=None, description="A sample: at most so many candidates a series.")
    max_negatives_per_series: int | None = Field(default=None, description="At most so many of class 0 a series.")
    sample_seed: int = Field(default=0, description="Decides the sample.")
    cutouts: str = Field(
        default="stored",
        description="Where training, prediction and reports take chunks from: `stored` files, or `on_the_fly` from the "
        "raw CTs. `cutout_index` made with `on_the_fly` needs no files either; both indexes are equal.",
    )
    workers: int | None = Field(default=None, description="Processes that cut in one run; nothing: 1, on Ray its CPUs.")
    on_ray: bool = Field(
        default=False, description="Cut on the Ray that RAY_ADDRESS names, else on one of this machine."
    )

    @property
    def parameters(self) -> "CuttingParameters":
        """The parameters as the one value that is part of the fingerprint."""
        from luna_pipeline.core.cutouts.cutting import CuttingParameters

        return CuttingParameters(
            chunk_shape_irc=tuple(self.chunk_shape_irc),  # type: ignore[arg-type]  # its length is checked there
            hu_window=tuple(self.hu_window),  # type: ignore[arg-type]
            edge_rule=self.edge_rule,  # type: ignore[arg-type]
            resampled_spacing_mm=self.resampled_spacing_mm and tuple(self.resampled_spacing_mm),  # type: ignore[arg-type]
        )

    @property
    def selection(self) -> "CandidateSelection":
        """Which candidates are cut."""
        from luna_pipeline.core.cutouts.selection import CandidateSelection

        return CandidateSelection(
            training_length=self.training_length,
            max_negatives_per_series=self.max_negatives_per_series,
            seed=self.sample_seed,
        )

    @property
    def store(self) -> "CutoutStore":
        """The files, one a series."""
        from luna_pipeline.launchers.installation import cutout_store

        return cutout_store(self.paths.settings)

    @property
    def source(self) -> "CutoutSource":
        """The chunks of the cutout index: stored or cut on the fly."""
        from luna_pipeline.launchers.installation import cutout_source

        return cutout_source(self.paths.settings, self.cutouts)

    @property
    def unindexed_source(self) -> "CutoutSource":
        """The chunks that the next index is made of."""
        from luna_pipeline.core.cutouts.on_the_fly import UncutSeries

        return UncutSeries(self.service()) if self.cutouts == "on_the_fly" else self.source

    @property
    def run_jobs(self) -> "RunJobs | None":
        """Who cuts; nobody for processes of the run."""
        if not self.on_ray:
            return None
        from luna_pipeline.cluster.cutting import run_jobs_on_ray

        return run_jobs_on_ray

    def service(self) -> "CtCutoutService":
        """Bring catalogue, candidate table, store and parameters together."""
        from luna_pipeline.core.cutouts.service import CtCutoutService

        return CtCutoutService(
            data_root=self.paths.settings.data_dir,
            catalogue=self.paths.read_table("ct_series"),
            candidates=self.selection.of(self.paths.read_table("candidates")),
            store=self.store,
            parameters=self.parameters,
        )


class MlflowRuns(dg.ConfigurableResource[None]):
    """MLflow runs of assets: one for each asset and test fold of a requested Dagster run."""

    paths: LunaPaths
    experiment: str = EXPERIMENT

    def opener(self, context: dg.AssetExecutionContext) -> "OpenMlflowRun":
        """Return a function that opens the MLflow run of the asset; a retry continues the first attempt's run.

        The run ends FINISHED, FAILED after an error, or KILLED after an interrupt.
        """
        from luna_pipeline.tracking.mlflow_run import mlflow_run

        settings = self.paths.settings
        identity = {"dagster_run_id": _requested_run_id(context), "luna.asset": context.asset_key.to_user_string()}
        if context.has_partition_key:
            identity["luna.test_fold"] = context.partition_key
        return lambda name, run_id: mlflow_run(
            settings.mlflow_tracking_uri,
            experiment=self.experiment,
            artifact_location=settings.artifact_location,
            run_name=name,
            run_id=run_id,
            identity=identity,
            tags={"dagster_job": context.run.job_name},
        )


def _requested_run_id(context: dg.AssetExecutionContext) -> str:
    """Return the id of the outermost run; of a retry, the id of the first attempt."""
    outer = context.run.tags.get(PARENT_TAG)
    run = (context.instance.get_run_by_id(outer) if outer else None) or context.run
    return run.root_run_id or run.run_id


class RayCluster(dg.ConfigurableResource[None]):
    """Where studies run: a Ray cluster, of which this run's machine is a node, or this machine alone."""

    address: str | None = Field(
        default=None, description="The cluster's head, HOST:PORT. Default: RAY_ADDRESS, else Ray is started here."
    )
    dashboard: bool = Field(
        default=False, description="Show the dashboard of a Ray that is started here, on 127.0.0.1."
    )
