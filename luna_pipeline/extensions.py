"""A user's own parts: Python files named by LUNA_EXTENSIONS, which register what they add by name."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "LUNA_EXTENSIONS"


def load_extensions(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Run the files that LUNA_EXTENSIONS names, each once in a process.

    Args:
        environment: Where the variable is; None for the process's own. Several files are parted by ``:``.

    Returns:
        The files.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If a file fails; what it raised is the cause.
    """
    values = os.environ if environment is None else environment
    files = [Path(name).expanduser().absolute() for name in values.get(VARIABLE, "").split(os.pathsep) if name]
    for file in files:
        _load(file)
    return files


def _load(file: Path) -> None:
    name = f"luna_extension_{file.stem}_{abs(hash(str(file)))}"
    if name in sys.modules:
        return
    if not file.is_file():
        msg = f"An extension must be a Python file, got no file {file} ({VARIABLE}). Check the path."
        raise FileNotFoundError(msg)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        msg = f"An extension must be a Python file, got {file} ({VARIABLE}). Let its name end in .py."
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        msg = f"An extension must run, got {type(error).__name__}: {error} ({file}). Mend the file."
        raise ImportError(msg) from error
