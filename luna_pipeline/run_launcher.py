"""Old name of ``runs.launcher``, which a dagster.yaml of version 0.1.0 or earlier still loads."""

from luna_pipeline.runs.launcher import LeasedRunLauncher

__all__ = ["LeasedRunLauncher"]
