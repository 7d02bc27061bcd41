"""The cursor of a sensor as a value."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass
class JsonCursor:
    """Base class of cursors: dataclasses of plain values, each with a default."""

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Self:
        """Read a cursor; a missing one, or one of another form, gives the defaults."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (TypeError, ValueError):
            return cls()

    def as_cursor(self) -> str:
        """Return the cursor as JSON."""
        return json.dumps(asdict(self))
