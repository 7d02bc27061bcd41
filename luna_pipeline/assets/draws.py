"""Dagster config of the assets that compute confidence intervals."""

import dagster as dg
from pydantic import Field


class DrawsConfig(dg.Config):
    """Bootstrap of the confidence intervals."""

    num_bootstraps: int = Field(
        default=1000,
        ge=1,
        description="Number of bootstrap samples of the 95 % intervals. Fewer are faster and less exact.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the bootstrap samples, the same for all models.")
