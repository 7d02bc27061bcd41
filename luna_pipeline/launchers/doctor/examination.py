"""All probes of an installation, in the order of their report."""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from luna_pipeline.launchers.doctor import folders, services, software
from luna_pipeline.launchers.doctor.findings import Finding, Probe
from luna_pipeline.launchers.doctor.variables import variables
from luna_pipeline.settings import REPOSITORY, Settings

# The first import of torch after the start of a machine reads a gigabyte.
_SECONDS_FOR_TORCH = 120.0
_SECONDS_FOR_DAGSTER = 30.0


def probes(environment: Mapping[str, str]) -> list[Probe]:
    """Return all probes of the installation that an environment describes.

    Args:
        environment: The environment variables.
    """
    made = [Probe("Variables", partial(variables, environment)), *_software(environment)]
    try:
        settings = Settings.from_environment(environment)
    except ValueError as error:
        # The other probes need folders and addresses.
        rule, _, advice = str(error).partition(". ")
        return [*made, Probe("Settings", lambda: [Finding("Settings", "problem", rule, advice)])]
    return [*made, *_machine(settings), *_parts(settings, environment)]


def _software(environment: Mapping[str, str]) -> list[Probe]:
    needed = software.requirements()
    required = {"s3": "LUNA_HOME in S3"} if environment.get("LUNA_HOME", "").startswith("s3:/") else {}
    return [
        Probe("Python", partial(software.python, needed.python)),
        Probe("Packages", partial(software.packages, needed.packages)),
        Probe("Lock", partial(software.lock, REPOSITORY / "requirements.lock")),
        Probe("Extras", partial(software.extras, needed.extras, required)),
        Probe("Compiled helpers", software.compiled_helpers),
        Probe("GPU", software.gpu, _SECONDS_FOR_TORCH),
    ]


def _machine(settings: Settings) -> list[Probe]:
    cache, temporary = settings.cache_dir, Path(tempfile.gettempdir())
    return [
        Probe("Memory", folders.memory),
        Probe("LUNA_CACHE", partial(folders.disk, "LUNA_CACHE", cache, f"rm -r {cache}, which only holds copies.")),
        Probe("TMPDIR", partial(folders.disk, "TMPDIR", temporary, "Make room, or set TMPDIR to a larger disk.")),
    ]


def _parts(settings: Settings, environment: Mapping[str, str]) -> list[Probe]:
    is_named = bool(environment.get("LUNA_DATA_DIR"))
    return [
        Probe("LUNA_DATA_DIR", partial(folders.data, settings, is_named=is_named)),
        Probe("LUNA_HOME", partial(folders.home, settings)),
        Probe("LUNA_EXTENSIONS", partial(software.extensions, environment), _SECONDS_FOR_TORCH),
        Probe("MLflow", partial(services.mlflow, settings)),
        Probe("Dagster", partial(services.dagster, environment.get("DAGSTER_HOME")), _SECONDS_FOR_DAGSTER),
        Probe("RAY_ADDRESS", partial(services.ray, environment.get("RAY_ADDRESS"))),
    ]
