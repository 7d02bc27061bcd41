"""Reading of the project's parquet tables."""

from typing import TYPE_CHECKING

from luna_pipeline.core.storage.files import AnyPath, content_of

if TYPE_CHECKING:
    import pandas as pd


def read_table_file(path: AnyPath, *, columns: list[str] | None = None, advice: str) -> "pd.DataFrame":
    """Return a table; its pages are compared with their checksums, which tables of version 0.1.0 lack.

    Args:
        path: A parquet file of ``write_table``.
        columns: Only these columns; None for all.
        advice: What to do about a damaged file, for messages.

    Raises:
        OSError: If there is no such file, or it is no regular file.
        ValueError: If it is damaged, no parquet file, or lacks a column.
    """
    import pandas as pd

    source = content_of(path)
    try:
        return pd.read_parquet(source, columns=columns, page_checksum_verification=True)
    # A damaged file raises errors of many kinds in pyarrow, OSError and KeyError among them.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        msg = f"A table must be a parquet file of this project, got: {reason} ({path}). {advice}"
        raise ValueError(msg) from error
