"""Resources of the assets: paths, cutting parameters, MLflow runs, Ray."""

from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from luna_pipeline.launchers.installation import DAGSTER_PAGE_TAG, EXPERIMENT
from luna_pipeline.options import NOT_COMPARABLE
from luna_pipeline.runs.nested import name_of_job, outermost_run_id, run_page
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
    """Paths and addresses from the environment variables, read when a run starts."""

    @property
    def settings(self) -> Settings:
        """Settings from the current environment."""
        return Settings.from_environment()

    def read_table(self, name: str, fold: int | None = None) -> "pd.DataFrame":
        """Read the table of an asset, or of one of its partitions.

        Raises:
            FileNotFoundError: If it was never materialized.
        """
        from luna_pipeline.launchers.installation import read_table

        return read_table(self.settings, name, fold)


class CutoutCutting(dg.ConfigurableResource[None]):
    """Cutting parameters, and the store of the cutouts."""

    paths: LunaPaths
    chunk_shape_irc: list[int] = Field(
        default=[32, 48, 48], description="Size of a cutout in voxels: slices, rows, columns."
    )
    hu_window: list[int] = Field(
        default=[-1000, 1000], description="Smallest and largest HU; values outside are clipped."
    )
    edge_rule: Literal["pad", "shift"] = Field(
        default="pad", description="`pad` centres every cutout, with air outside the CT; `shift` is the book's rule."
    )
    resampled_spacing_mm: list[float] | None = Field(
        default=None,
        description="Spacing in mm along x, y, z to which each CT is resampled. Default: its own spacing.",
    )
    training_length: int | None = Field(
        default=None, ge=1, description=f"Largest number of candidates per series. {NOT_COMPARABLE} Default: all."
    )
    max_negatives_per_series: int | None = Field(
        default=None,
        ge=0,
        description=f"Largest number of candidates of class 0 (no nodule) per series. {NOT_COMPARABLE} Default: all.",
    )
    sample_seed: int = Field(
        default=0, ge=0, description="Seed of the sample of candidates, where their number is limited."
    )
    cutouts: Literal["stored", "on_the_fly"] = Field(
        default="stored",
        description="Source of the chunks for training, prediction and reports: `stored` files, or cut `on_the_fly` "
        "from the raw CTs, also for `cutout_index`. Both give the same results on one machine.",
    )
    workers: int | None = Field(
        default=None, ge=1, description="Number of processes of a run. Default: 1; on Ray all CPUs."
    )
    on_ray: bool = Field(default=False, description="Cut on the Ray cluster at RAY_ADDRESS, else on a local Ray.")

    def check_values(self) -> None:
        """Raise a ValueError if a parameter is not allowed."""
        _ = self.parameters, self.selection

    @property
    def parameters(self) -> "CuttingParameters":
        """Parameters that are part of a cutout file's fingerprint."""
        from luna_pipeline.core.cutouts.cutting import CuttingParameters

        return CuttingParameters(
            chunk_shape_irc=tuple(self.chunk_shape_irc),  # type: ignore[arg-type]  # its length is checked there
            hu_window=tuple(self.hu_window),  # type: ignore[arg-type]
            edge_rule=self.edge_rule,
            resampled_spacing_mm=self.resampled_spacing_mm and tuple(self.resampled_spacing_mm),  # type: ignore[arg-type]
        )

    @property
    def selection(self) -> "CandidateSelection":
        """Selection of the candidates that are cut."""
        from luna_pipeline.core.cutouts.selection import CandidateSelection

        return CandidateSelection(
            training_length=self.training_length,
            max_negatives_per_series=self.max_negatives_per_series,
            seed=self.sample_seed,
        )

    @property
    def store(self) -> "CutoutStore":
        """Store of the cutout files, one per series."""
        from luna_pipeline.launchers.installation import cutout_store

        return cutout_store(self.paths.settings)

    @property
    def source(self) -> "CutoutSource":
        """Chunks of the cutout index: stored or cut on the fly."""
        from luna_pipeline.launchers.installation import cutout_source

        return cutout_source(self.paths.settings, self.cutouts)

    @property
    def unindexed_source(self) -> "CutoutSource":
        """Chunks from which the next index is built."""
        from luna_pipeline.core.cutouts.on_the_fly import UncutSeries

        return UncutSeries(self.service()) if self.cutouts == "on_the_fly" else self.source

    @property
    def run_jobs(self) -> "RunJobs | None":
        """Function that runs the jobs on Ray; None for local processes."""
        if not self.on_ray:
            return None
        from luna_pipeline.cluster.cutting import run_jobs_on_ray

        return run_jobs_on_ray

    def service(self) -> "CtCutoutService":
        """Return the service that cuts, with catalogue, candidates, store and parameters."""
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
    experiment: str = Field(default=EXPERIMENT, description="MLflow experiment that the runs belong to.")

    def opener(self, context: dg.AssetExecutionContext) -> "OpenMlflowRun":
        """Return a function that opens the MLflow run of the asset; a retry continues the first attempt's run.

        The run ends FINISHED, FAILED after an error, or KILLED after an interrupt.
        """
        from luna_pipeline.launchers.installation import mlflow_opener

        asset = context.asset_key.to_user_string()
        tags = dagster_tags(context, self.paths.settings)
        identity = {"dagster_run_id": tags.pop("dagster_run_id"), "luna.asset": asset}
        if context.has_partition_key:
            identity["luna.test_fold"] = context.partition_key
        source = f"Dagster asset {asset}"
        return mlflow_opener(
            self.paths.settings, experiment=self.experiment, source=source, identity=identity, tags=tags
        )


def dagster_tags(context: dg.AssetExecutionContext, settings: Settings) -> dict[str, str]:
    """Return the tags by which an MLflow run names the Dagster run that made it.

    They name the outermost run, which a person, sensor or schedule started; of a retry, the first attempt's id.
    """
    outer = outermost_run_id(context.run)
    run = (context.instance.get_run_by_id(outer) if outer else None) or context.run
    tags = {"dagster_run_id": run.root_run_id or run.run_id, "dagster_job": name_of_job(run)}
    if settings.dagster_ui_url:
        tags[DAGSTER_PAGE_TAG] = run_page(settings.dagster_ui_url, run.run_id)
    return tags


class RayCluster(dg.ConfigurableResource[None]):
    """Ray cluster of the studies, of which this machine must be a node; or a local Ray."""

    address: str | None = Field(
        default=None, description="Head of the cluster, HOST:PORT. Default: RAY_ADDRESS, else a local Ray."
    )
    dashboard: bool = Field(default=False, description="Start the dashboard of a local Ray, on 127.0.0.1.")
