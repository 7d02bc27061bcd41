"""XML without document types, entities and namespaces, with limits, and messages that have file and line.

Source:
    A document type can name files and addresses, and can define entities that expand to gigabytes (CWE-611, CWE-776).
    The standard library warns of both; here any document type is refused before its content is read.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from luna_pipeline.core.storage.regular_files import open_regular, shown_name

MAX_BYTES = 64 << 20
"""Size of a file; the largest of LIDC-IDRI has a few MB."""
MAX_DEPTH = 32
"""Elements within each other; LIDC-IDRI's files have 5."""
MAX_ELEMENTS = 4_000_000
_LINE = "line of the file"
_BLOCK_BYTES = 1 << 20
# Those that expat reads by itself.
_ENCODINGS = {"utf-8", "utf-16", "utf-16be", "utf-16le", "us-ascii", "iso-8859-1"}


def read_plain_xml(path: Path) -> Element:
    """Return the root of an XML file; names are without namespaces, and ``line_of`` has the place of each element.

    Raises:
        NotRegularFileError: If it is no regular file.
        ValueError: If it is not well formed, has a document type or another encoding, or exceeds a limit; with file
            and line.
    """
    tree = _Tree(shown_name(path))
    with open_regular(path) as file:
        while block := file.read(_BLOCK_BYTES):
            tree.feed(block, file.tell())
    return tree.close()


def named(element: Element) -> str:
    """Return the name of an element."""
    return str(element.tag)


def line_of(element: Element) -> int:
    """Return the line on which an element begins, from 1."""
    return int(element.attrib[_LINE])


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the elements of a name directly within one; case does not matter."""
    return (item for item in element if item.tag.lower() == name.lower())


def child(element: Element, name: str, file: str) -> Element:
    """Return the first element of a name within one.

    Raises:
        ValueError: If there is none.
    """
    found = next(children(element, name), None)
    if found is None:
        place = f"{file}, line {line_of(element)}"
        raise ValueError(f"{named(element)} must have a {name}, got none ({place}). Correct the file or copy it again.")
    return found


def text_in(element: Element, name: str, file: str) -> str:
    """Return the text of an element within one, without spaces around it.

    Raises:
        ValueError: If it is missing or empty.
    """
    found = child(element, name, file)
    text = (found.text or "").strip()
    if not text:
        raise ValueError(f"{name} must not be empty, got no text ({file}, line {line_of(found)}). Correct the file.")
    return text


def number_in(element: Element, name: str, file: str) -> float:
    """Return the number in an element within one.

    Raises:
        ValueError: If it is missing or no finite number.
    """
    text = text_in(element, name, file)
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        place = f"{file}, line {line_of(child(element, name, file))}"
        raise ValueError(f"{name} must be a number, got {text[:40]!r} ({place}). Correct the file.")
    return value


class _Tree:
    """Builds elements from expat's events."""

    def __init__(self, file: str) -> None:
        self._file, self._depth, self._num_elements = file, 0, 0
        self._builder = TreeBuilder()
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._builder.data
        self._parser.XmlDeclHandler = self._check_encoding
        self._parser.StartDoctypeDeclHandler = self._refuse_document_type

    def feed(self, block: bytes, num_bytes: int) -> None:
        if num_bytes > MAX_BYTES:
            self._refuse(f"An XML file must have at most {MAX_BYTES >> 20} MiB, got more")
        self._parse(block, is_last=False)

    def close(self) -> Element:
        self._parse(b"", is_last=True)
        return self._builder.close()

    def _parse(self, block: bytes, *, is_last: bool) -> None:
        try:
            self._parser.Parse(block, is_last)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            place = f"{self._file}, line {error.lineno}, column {error.offset}"
            msg = f"XML must be well formed, got {reason} ({place}). Copy the file again."
            raise ValueError(msg) from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._num_elements += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"Elements must be at most {MAX_DEPTH} deep in each other, got more")
        if self._num_elements > MAX_ELEMENTS:
            self._refuse(f"An XML file must have at most {MAX_ELEMENTS} elements, got more")
        self._builder.start(name.rpartition("}")[2], {_LINE: str(self._parser.CurrentLineNumber)})

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(name.rpartition("}")[2])

    def _check_encoding(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            self._refuse(f"An XML file must be in UTF-8, got the encoding {encoding[:40]!r}")

    def _refuse_document_type(self, name: str, *details: object) -> None:
        self._refuse("An XML file must have no document type, got one")

    def _refuse(self, rule: str) -> NoReturn:
        place = f"{self._file}, line {self._parser.CurrentLineNumber}"
        raise ValueError(f"{rule} ({place}). Replace it with the file as it was published.")
