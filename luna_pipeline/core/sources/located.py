"""Which data sources a data root holds, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline.core.sources.registry import DATA_SOURCES
from luna_pipeline.core.sources.source import DataSource

DEFAULT_SOURCE = "luna16"


@dataclass(frozen=True)
class LocatedSource:
    """A data source and its folder.

    Attributes:
        name: Name in ``DATA_SOURCES``.
        source: The source.
        root: Its folder: the data root, or the folder of the source's name in it.
    """

    name: str
    source: DataSource
    root: Path


def locate_sources(data_root: Path, names: Sequence[str] = ()) -> list[LocatedSource]:
    """Return the sources of a data root, in the order that decides which one a shared scan belongs to.

    Args:
        data_root: Folder of one source, or of a folder per source with the source's name.
        names: Sources by name; empty for those that lie in the data root: folders of sources that bear their names,
            else the first registered source that recognises the root, else LUNA16 (any CTs with tables in its form).

    Raises:
        ValueError: If a name is unknown or given twice, or a source lies in a folder and LUNA16's tables beside it.
        FileNotFoundError: If one of several sources has no folder.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"Each data source must be named once, got {', '.join(names)}. Leave out the doubles.")
    chosen = list(names) or _found(data_root)
    located = [
        LocatedSource(name, DATA_SOURCES.get(name)(), _root_of(data_root, name, is_named=bool(names)))
        for name in chosen
    ]
    at_top = [it.name for it in located if it.root == data_root]
    if len(located) > 1 and at_top:
        msg = f"Each of several data sources must have its own folder, got none for {', '.join(at_top)} ({data_root})."
        raise FileNotFoundError(f"{msg} Put its data into {data_root.name}/{at_top[0]}.")
    return located


def folder_for(data_root: Path, name: str, names: Sequence[str] = ()) -> Path:
    """Return the folder to put a source's data into, where ``locate_sources`` finds it beside the others.

    Args:
        data_root: Folder of one source, or of a folder per source.
        name: The source.
        names: Sources that are chosen by name.
    """
    has_folders = any((data_root / it).is_dir() for it in DATA_SOURCES.names()) and not _is_at(name, data_root)
    return data_root / name if has_folders or len(names) > 1 else data_root


def _found(data_root: Path) -> list[str]:
    """Return the sources with a folder of their own that holds them, else the one of the data root."""
    named = [name for name in DATA_SOURCES.names() if (data_root / name).is_dir()]
    folders = [name for name in named if _is_at(name, data_root / name)]
    if not folders:
        return [_recognised(data_root)]
    if _is_at(DEFAULT_SOURCE, data_root):
        msg = f"Data sources must lie side by side, got {', '.join(folders)} in a folder and tables beside it"
        raise ValueError(f"{msg} ({data_root}). Move what is at the top into {DEFAULT_SOURCE}/, or set LUNA_SOURCE.")
    return folders


def _recognised(data_root: Path) -> str:
    if not data_root.is_dir():
        return DEFAULT_SOURCE
    found = (name for name in DATA_SOURCES.names() if _is_at(name, data_root))
    return next(found, DEFAULT_SOURCE)


def _root_of(data_root: Path, name: str, *, is_named: bool) -> Path:
    folder = data_root / name
    # LUNA16's CTs may lie in a folder of any name below its tables.
    is_own = folder.is_dir() and (_is_at(name, folder) or (is_named and not _is_at(name, data_root)))
    return folder if is_own else data_root


def _is_at(name: str, folder: Path) -> bool:
    return bool(DATA_SOURCES.get(name)().is_at(folder))
