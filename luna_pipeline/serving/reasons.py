"""Reasons of failed jobs, which leave the service: without values of a CT's headers and without names from outside."""

import logging
import re

from luna_pipeline.core.ct.errors import UnreadableCtError, failure_of

_GOT = ", got "
# A text of a header is quoted; one that was shortened has no second quote.
_QUOTED = re.compile(r"""(?<!\w)(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))""")
_NUMBERS = re.compile(r"""['"][-+.,eE\d\s\\]*['"]""")
_log = logging.getLogger(__name__)


def reason_of(error: Exception, job_id: str) -> str:
    """Return why a job failed, in one line.

    The rules of the project's messages are kept; quoted values after "got" are replaced, unless they are numbers. The
    text of an unforeseen error is left out.
    """
    text = failure_of(error, job_id)
    is_foreseen = isinstance(error, (UnreadableCtError, OSError, MemoryError)) or _GOT in str(error)
    if is_foreseen:
        return without_values(text)
    _log.error("A diagnosis ended with an unforeseen error.", exc_info=error)
    rule = f"A CT must be diagnosed without an unforeseen error, got {type(error).__name__} (diagnosis {job_id})."
    return f"{rule} Report it as an issue with the place that the service's log names."


def without_values(text: str) -> str:
    """Return a message with its quoted values replaced, unless they are numbers; its rule stays as it is."""
    start = text.find(_GOT) + 1
    return text[:start] + _QUOTED.sub(lambda found: _shown(found[0]), text[start:])


def _shown(quoted: str) -> str:
    return quoted if _NUMBERS.fullmatch(quoted) else "a text"
