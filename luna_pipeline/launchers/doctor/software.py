"""Findings about Python, packages, compiled helpers and torch."""

import importlib
import importlib.metadata
import platform
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from luna_pipeline.launchers.doctor.findings import Finding, State
from luna_pipeline.settings import REPOSITORY

SHOWN = ("dagster", "torch", "monai", "mlflow", "ray", "SimpleITK")
EXTRAS = {
    "serving": "`luna serve` and `luna receive`",
    "s3": "LUNA_HOME in S3",
    "postgres": "Dagster's storage in PostgreSQL",
    "dashboard": "Ray's dashboard",
    "notebooks": "`make notebooks`",
}
"""What each extra is needed for; ``dev`` is for the tests."""
_COMPILED = {
    "cutting": "luna_pipeline.core.cutouts._gather",
    "augmentation": "luna_pipeline.core.datasets._augment",
}


@dataclass(frozen=True)
class Requirements:
    """What the project needs.

    Attributes:
        python: Versions of Python.
        packages: Packages without an extra.
        extras: Packages by extra.
    """

    python: str
    packages: list[Requirement]
    extras: dict[str, list[Requirement]]


def requirements() -> Requirements:
    """Return the project's requirements, from ``pyproject.toml`` or else from the installed package."""
    path = REPOSITORY / "pyproject.toml"
    if path.exists():
        project = tomllib.loads(path.read_text())["project"]
        extras = {name: list(map(Requirement, lines)) for name, lines in project["optional-dependencies"].items()}
        return Requirements(project["requires-python"], list(map(Requirement, project["dependencies"])), extras)
    metadata = importlib.metadata.metadata("luna-pipeline")
    lines = list(map(Requirement, metadata.get_all("Requires-Dist") or []))
    extras = {name: [it for it in lines if _is_of(it, name)] for name in metadata.get_all("Provides-Extra") or []}
    return Requirements(metadata["Requires-Python"], [it for it in lines if _is_of(it, "")], extras)


def _is_of(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if marker is None:
        return not extra
    return marker.evaluate({"extra": extra}) and (not extra or not marker.evaluate({"extra": ""}))


def python(needed: str) -> Iterator[Finding]:
    """Compare the version of Python with the needed ones, such as ``>=3.11``."""
    version = platform.python_version()
    if SpecifierSet(needed).contains(version, prereleases=True):
        yield Finding("Python", "ok", f"{version} (needed: {needed})")
    else:
        fix = f"Install Python {needed} and run `make setup PYTHON=python3.x`."
        yield Finding("Python", "problem", f"{version} (needed: {needed})", fix)


def packages(needed: list[Requirement]) -> Iterator[Finding]:
    """Compare installed packages with the needed ranges."""
    wrong = _unmet(needed)
    for requirement, version in wrong.items():
        fix = f"pip install '{requirement}'"
        yield Finding(requirement.name, "problem", f"{version or 'missing'} (needed: {requirement.specifier})", fix)
    shown = ", ".join(f"{it.name} {_version(it.name)}" for it in needed if it.name in SHOWN and it not in wrong)
    yield Finding("Packages", "ok", f"{len(needed) - len(wrong)} of {len(needed)} in their ranges: {shown}")


def lock(path: Path) -> Iterator[Finding]:
    """Compare installed packages with the versions of a lock file, with which the tests ran."""
    if not path.exists():
        return
    pins = [Requirement(line) for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
    # Packages of extras and other systems may be missing.
    present = [it for it in pins if _version(it.name) is not None]
    other = {it.name: f"{version}, locked {it.specifier}" for it, version in _unmet(present).items()}
    if not other:
        yield Finding("Lock", "ok", f"{len(present)} packages as in {path.name}")
        return
    first = "; ".join(f"{name} {text}" for name, text in list(other.items())[:3])
    more = f" and {len(other) - 3} more" if len(other) > 3 else ""
    value = f"{len(other)} packages differ from {path.name}, with which the tests ran: {first}{more}"
    yield Finding("Lock", "note", value, f"pip install -r {path.name}")


def extras(needed: Mapping[str, list[Requirement]], required: Mapping[str, str]) -> Iterator[Finding]:
    """Report which extras are installed.

    Args:
        needed: Packages by extra.
        required: Reason by extra that the settings require.
    """
    for name, use in EXTRAS.items():
        missing = [requirement.name for requirement in _unmet(needed.get(name, []))]
        if not missing:
            yield Finding(f"Extra {name}", "ok", f"installed ({use})")
            continue
        value = f"missing: {', '.join(missing)} (for {required.get(name, use)})"
        state: State = "problem" if name in required else "note"
        yield Finding(f"Extra {name}", state, value, f"pip install -e '.[{name}]'")


def compiled_helpers() -> Iterator[Finding]:
    """Report whether the two C modules were built: NumPy and torch replace them, slower."""
    missing = {}
    for use, module in _COMPILED.items():
        try:
            importlib.import_module(module)
        except ImportError:
            missing[use] = module.rpartition(".")[2]
    if missing:
        value = f"not built: {', '.join(missing.values())}; {' and '.join(missing)} are slower, with the same results"
        fix = "Install a C compiler and Python's headers, and run `pip install --no-deps --no-build-isolation -e .`"
        yield Finding("Compiled helpers", "note", value, fix)
    else:
        yield Finding("Compiled helpers", "ok", ", ".join(module.rpartition(".")[2] for module in _COMPILED.values()))


def gpu() -> Iterator[Finding]:
    """Report torch's build, the GPUs that it can use, and why it can use none although there is a driver."""
    import torch

    build = f"torch {torch.__version__}, " + (f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            yield Finding(f"GPU {number}", "ok", f"{device.name}, {device.total_memory / 2**30:.0f} GiB ({build})")
        return
    driver = nvidia_driver()
    if driver is None:
        yield Finding("GPU", "note", f"no NVIDIA driver, so training uses the CPU ({build})")
    elif torch.version.cuda:
        value = f"driver {driver} is there, but torch cannot use it ({build})"
        fix = "Update the driver to one for this CUDA, unset CUDA_VISIBLE_DEVICES, or install torch for an older CUDA."
        yield Finding("GPU", "problem", value, fix)
    else:
        fix = f"pip install --force-reinstall --no-deps torch=={Version(torch.__version__).public} (a build with CUDA)"
        yield Finding("GPU", "problem", f"driver {driver} is there, but torch has no CUDA ({build})", fix)


def extensions(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Report whether the files that LUNA_EXTENSIONS names can be executed."""
    from luna_pipeline.extensions import VARIABLE, load_extensions

    files = load_extensions(environment)
    if files:
        yield Finding(VARIABLE, "ok", f"loaded: {', '.join(map(str, files))}")


def nvidia_driver() -> str | None:
    """Return the version of NVIDIA's driver, None without one."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None


def _unmet(needed: list[Requirement]) -> dict[Requirement, str | None]:
    """Return the requirements that are not met, with the installed version; None if it is missing."""
    relevant = [it for it in needed if it.marker is None or it.marker.evaluate({"extra": ""})]
    versions = {it: _version(it.name) for one in relevant for it in (one, *_of_its_extras(one))}
    return {
        it: version
        for it, version in versions.items()
        if version is None or not it.specifier.contains(Version(version), prereleases=True)
    }


def _of_its_extras(requirement: Requirement) -> list[Requirement]:
    """Return what the extras of a package need, as of ``ray[serve]``."""
    if not requirement.extras or _version(requirement.name) is None:
        return []
    lines = map(Requirement, importlib.metadata.requires(requirement.name) or [])
    return [it for it in lines if any(_is_of(it, extra) for extra in requirement.extras)]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
