"""Requests to MLflow that end soon and say whether MLflow is away or refuses."""

import contextlib
import os
from collections.abc import Iterator, Mapping

from luna_pipeline.tracking.outbox import TrackerUnavailableError, without_password

# Who asks tries again himself; MLflow's own patience would be four minutes a request.
FEW_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# A number that cannot be handed over now is handed over later; training does not wait for a server that hangs.
HASTY = {**FEW_RETRIES, "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
# A proxy says these for a server that is not there; 429 says later by itself.
OUTAGE_STATUS = (429, 502, 503, 504)


@contextlib.contextmanager
def mlflow_requests(settings: Mapping[str, str]) -> Iterator[None]:
    """Ask MLflow under these settings, and tell an outage from a refusal.

    Args:
        settings: Environment variables of MLflow, set back afterwards.

    Raises:
        TrackerUnavailableError: If the server cannot be reached, or its database is locked.
    """
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    except Exception as error:
        if is_outage(error):
            # Without its cause: the chain below it names the address with its password.
            raise TrackerUnavailableError(without_password(str(error))) from None
        raise
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def is_outage(error: BaseException) -> bool:
    """Say whether an error, or one that led to it, is that of a server that may be back later."""
    from mlflow.exceptions import MlflowException
    from requests import exceptions

    # MLflow raises a general error of its own in the place of the one that tells.
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ConnectionError | TimeoutError):
            return True
        if isinstance(
            link,
            exceptions.ConnectionError | exceptions.Timeout | exceptions.RetryError | exceptions.ChunkedEncodingError,
        ):
            return True
        if isinstance(link, exceptions.HTTPError) and getattr(link.response, "status_code", None) in OUTAGE_STATUS:
            return True
        if isinstance(link, MlflowException) and link.error_code == "TEMPORARILY_UNAVAILABLE":
            return True
        link = link.__cause__ or link.__context__
    return False
