"""Loading of your own parts: Python files, named by LUNA_EXTENSIONS, that register networks, losses and so on."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "LUNA_EXTENSIONS"


def load_extensions(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Execute the files that LUNA_EXTENSIONS names, each once per process, and return them.

    Args:
        environment: Holds the variable; None for the process's own. Several files are separated by ``:``.

    Raises:
        FileNotFoundError: If a file does not exist.
        ImportError: If a file raises an error, which is the cause.
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
        msg = f"An extension must be a Python file, got {file} ({VARIABLE}). Rename it to end in .py."
        raise ImportError(msg)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        msg = f"An extension must run, got {type(error).__name__}: {error} ({file}). Fix the file."
        raise ImportError(msg) from error
