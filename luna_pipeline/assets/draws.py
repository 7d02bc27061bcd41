"""What the launchpad asks of every asset whose figures have intervals."""

import dagster as dg
from pydantic import Field


class DrawsConfig(dg.Config):
    """How intervals are made."""

    num_bootstraps: int = Field(default=1000, ge=1, description="Draws of scans with replacement.")
    seed: int = Field(default=0, ge=0, description="Of the draws; the same for all models.")
