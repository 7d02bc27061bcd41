"""Columns of tables: the spellings of LUNA16's, and which of a header's columns are read."""

from collections.abc import Mapping, Sequence

Spellings = Mapping[str, Sequence[str]]

# Our name -> the spellings of LUNA16, the book and the original project; messages use the first.
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "series_instance_uid": ("seriesuid", "series_instance_uid"),
    "x": ("coordX", "coord_x"),
    "y": ("coordY", "coord_y"),
    "z": ("coordZ", "coord_z"),
    "class": ("class",),
    "diameter_mm": ("diameter_mm",),
    "is_malignant": ("is_malignant", "mal_bool"),
    "ratings": ("malignant_details", "malignancies"),
    "subset": ("subset",),
    "probability": ("probability",),
}

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "blanks"}
_MAX_SHOWN = 20
_MAX_LENGTH = 40


def choose_columns(
    names: Sequence[str], line: str, columns: Sequence[str], optional: Sequence[str], *, file: str
) -> dict[str, int]:
    """Return the place of each column in a table.

    Args:
        names: Names in the first line, without the spaces around them.
        line: The first line, for messages.
        columns: Wanted columns by our names (keys of ``SPELLINGS``).
        optional: Columns that are wanted where they exist.
        file: The table's name, for messages.

    Raises:
        ValueError: If a wanted column is missing, there twice or misspelled, with the likely cause and its cure.
    """
    places = {column: column_places(names, column) for column in (*columns, *optional)}
    for column in (column for column, found in places.items() if not found):
        if close := close_places(names, column):
            rule = f"Column {SPELLINGS[column][0]} must be spelled so, got {names[close[0]]} ({file} line 1)."
            raise ValueError(f"{rule} Rename it to {SPELLINGS[column][0]}.")
    missing = [SPELLINGS[column][0] for column in columns if not places[column]]
    if missing:
        raise _missing(missing, names, line, columns, file)
    for column in columns:
        found = [names[place] for place in places[column]]
        if len(found) > 1:
            rule = f"Column {SPELLINGS[column][0]} must be in the table once, got {', '.join(found)}"
            raise ValueError(f"{rule} ({file} line 1). Rename or remove all but one.")
    return {column: found[0] for column, found in places.items() if found}


def column_places(names: Sequence[str], column: str, spellings: Spellings = SPELLINGS) -> list[int]:
    """Return where a column is, its first spelling first."""
    return [place for spelling in spellings[column] for place, name in enumerate(names) if name == spelling]


def close_places(names: Sequence[str], column: str, spellings: Spellings = SPELLINGS) -> list[int]:
    """Return where a column is, also in another case and with other spaces and underscores: "Mal Bool" is mal_bool."""
    wanted = {_plain(spelling) for spelling in spellings[column]}
    return [place for place, name in enumerate(names) if _plain(name) in wanted]


def _plain(name: str) -> str:
    return name.casefold().replace(" ", "").replace("_", "")


def separator_of(line: str, columns: Sequence[str], spellings: Spellings = SPELLINGS) -> str | None:
    """Return the sign other than a comma that separates the known columns of a header; None without one."""
    for separator in SEPARATORS:
        parts = [part.strip().strip('"') for part in line.split(separator)]
        if len(parts) > 1 and any(close_places(parts, column, spellings) for column in columns):
            return separator
    return None


def _missing(missing: Sequence[str], names: Sequence[str], line: str, columns: Sequence[str], file: str) -> ValueError:
    """Return the error of a table without some columns, with what is likely wrong with its first line."""
    if (separator := separator_of(line, columns)) is not None:
        rule = f"Values must be separated by commas, got {SEPARATORS[separator]} ({file} line 1)."
        return ValueError(f"{rule} Export the table with commas, and with points in numbers.")
    if not any(column_places(names, column) for column in SPELLINGS):
        rule = f"The first line must name the columns {', '.join(missing)}, got {other_values(names)} ({file} line 1)."
        return ValueError(f"{rule} Insert a line with the names.")
    msg = f"Column {', '.join(missing)} must be in the table, got {shown_names(names)} ({file})."
    return ValueError(f"{msg} Rename or add it in the first line.")


def shown_names(names: Sequence[str]) -> str:
    """Return the names of a header for a message of one line, shortened."""
    num_more = len(names) - _MAX_SHOWN
    return ", ".join(_shown(name) for name in names[:_MAX_SHOWN]) + f" and {num_more} more" * (num_more > 0)


def other_values(names: Sequence[str]) -> str:
    """Return how a line without any known column is called: its values may be those of a row, a patient's name too."""
    return f"{len(names)} other values" if len(names) > 1 else "one other value"


def shown_value(text: str) -> str:
    """Return a value in quotes for a message of one line, shortened."""
    return repr(text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}...")


def _shown(name: str) -> str:
    """Return a column's name for a message of one line, without quotes where it is printable and short."""
    return name if name.isprintable() and len(name) <= _MAX_LENGTH else shown_value(name)
