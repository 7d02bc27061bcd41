"""Requests to MLflow with short timeouts, and the difference between an outage and a rejection."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from luna_pipeline.core.config.environment import environment_variables
from luna_pipeline.tracking.outbox import TrackerUnavailableError, without_password

# The caller retries; MLflow's own retries would take four minutes per request.
FEW_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# Values that cannot be sent now are sent later: training does not wait for a server that hangs.
HASTY = {**FEW_RETRIES, "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
SECONDS_TO_FIRST_ANSWER, PAUSE_SECONDS = 8.0, 1.0
# A proxy answers with these for a missing server; 429 means "retry later".
OUTAGE_STATUS = (429, 502, 503, 504)

Answer = TypeVar("Answer")


@contextlib.contextmanager
def mlflow_requests(settings: Mapping[str, str]) -> Iterator[None]:
    """Send requests to MLflow with these environment variables, which are restored afterwards.

    Raises:
        TrackerUnavailableError: If the server cannot be reached, or its database is locked.
    """
    try:
        with environment_variables(settings):
            yield
    except Exception as error:
        if is_outage(error):
            # Without its cause, whose message contains the address with its password.
            raise TrackerUnavailableError(without_password(str(error))) from None
        raise


def first_answer(
    ask: Callable[[], Answer],
    tracking_uri: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Return the answer to a first request: a server that cannot be reached is reported within ten seconds.

    Args:
        ask: Sends the request; called again during an outage.
        tracking_uri: The server's address, for the message.
        clock: Returns monotonic seconds.
        sleep: Waits for some seconds.

    Raises:
        TrackerUnavailableError: If there is no answer in time.
    """
    deadline = clock() + SECONDS_TO_FIRST_ANSWER
    while True:
        timeout_seconds = max(1, int(deadline - clock()))
        settings = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds)}
        try:
            with mlflow_requests(settings):
                return ask()
        except TrackerUnavailableError as outage:
            if clock() + 2 * PAUSE_SECONDS > deadline:
                address, reason = without_password(tracking_uri), " ".join(str(outage).split())
                msg = f"MLflow must answer at the start, got no answer within {SECONDS_TO_FIRST_ANSWER:.0f} s"
                remedy = "Start it, correct MLFLOW_TRACKING_URI, or train without it (--no-mlflow)."
                raise TrackerUnavailableError(f"{msg} ({address}). {remedy} Reason: {reason:.300}") from None
        sleep(PAUSE_SECONDS)


def is_outage(error: BaseException) -> bool:
    """Return whether an error or one of its causes means that the server is unavailable for a while."""
    from mlflow.exceptions import MlflowException
    from requests import exceptions

    requests_outages = (
        exceptions.ConnectionError,
        exceptions.Timeout,
        exceptions.RetryError,
        exceptions.ChunkedEncodingError,
    )
    # MLflow raises a general error; the reason is among its causes.
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, (ConnectionError, TimeoutError, *requests_outages)):
            return True
        if isinstance(link, exceptions.HTTPError) and getattr(link.response, "status_code", None) in OUTAGE_STATUS:
            return True
        if isinstance(link, MlflowException) and link.error_code == "TEMPORARILY_UNAVAILABLE":
            return True
        link = link.__cause__ or link.__context__
    return False
