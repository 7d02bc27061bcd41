"""What a person must know of a data source before choosing it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SourceCard:
    """Facts about a data source, shown where it is chosen.

    Attributes:
        name: Name in the registry and of its folder, such as ``luna16``.
        title: Name in publications.
        licence: Licence of images and tables, each named.
        citation: Publication that users of the data must cite, with its DOI.
        address: Web page of the data.
        size: Number of scans and bytes, in words.
        layout: Files and folders expected below the root, in one sentence.
        traps: What goes wrong with these data, a sentence each.
        checksums: MD5 by file name, as published; empty where none are.
    """

    name: str
    title: str
    licence: str
    citation: str
    address: str
    size: str
    layout: str
    traps: tuple[str, ...] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
