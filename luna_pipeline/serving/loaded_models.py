"""Models that stay loaded between requests and are replaced when the champion or the newest version changes."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from luna_pipeline.core.config.checks import check_choice
from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel, DiagnosisModels
from luna_pipeline.core.diagnosis.recipes import diagnosis_recipe
from luna_pipeline.core.diagnosis.result import ModelVersion, Role
from luna_pipeline.core.training.checkpoints import CheckpointError
from luna_pipeline.launchers.diagnosis.diagnose import DEVICES
from luna_pipeline.launchers.diagnosis.model_places import ModelPlace, find_place, find_places, load_place
from luna_pipeline.launchers.diagnosis.models import model_of
from luna_pipeline.launchers.seen_data import seen_data
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.outbox import OUTAGES, TrackerUnavailableError

_log = logging.getLogger(__name__)
_ERRORS = (FileNotFoundError, CheckpointError, TrackerUnavailableError)
LOOK_SECONDS = 5.0
"""Default time between two looks for other models: one takes 0.1 s of a core with MLflow on SQLite."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Loaded:
    place: ModelPlace
    model: DiagnosisModel
    seen_series: frozenset[str]

    def for_series(self, uid: str) -> DiagnosisModel:
        """Return the model with ``has_seen_series`` of a series; the network is shared."""
        version = replace(self.model.version, has_seen_series=uid in self.seen_series)
        return replace(self.model, version=version)


def shown_reason(error: Exception) -> str:
    """Return why models could not be loaded, for a log."""
    # Errors of other kinds may hold the registry's address with its password.
    is_own = isinstance(error, _ERRORS) or (isinstance(error, ValueError) and ", got " in str(error))
    return str(error) if is_own else type(error).__name__


def check_models(settings: Settings, config: ServiceConfig) -> None:
    """Check what a configuration names for diagnoses: recipe, device, models. Defaults are found when they are needed.

    A model whose store does not answer is not waited for.

    Raises:
        FileNotFoundError: If there is no model at an address.
        CheckpointError: If a file is damaged.
        ValueError: If recipe or device is unknown, an address is none, or a model is of another role.
    """
    diagnosis_recipe(config.recipe)
    check_choice("device", config.device, DEVICES)
    for role, address in _addresses(config).items():
        if address is None:
            continue
        try:
            place = find_place(settings, role, address)
            assert place is not None
            model_of(role, load_place(settings, place), address=place.address)
        except OUTAGES as error:
            _log.warning("The %s is not checked, because its store does not answer: %s", role, shown_reason(error))


def _addresses(config: ServiceConfig) -> dict[Role, str | None]:
    return {
        "segmenter": config.segmenter or None,
        "classifier": config.classifier or None,
        "malignancy": config.malignancy or None,
    }


class LoadedModels:
    """The models of the service, loaded at the first use and again when their places hold others.

    A call looks at the places (one request to MLflow for each role, file times), at most every ``look_seconds``. Calls
    of other threads meanwhile get the models that are loaded. If other models cannot be found or loaded, the loaded
    ones stay in use, and a warning is logged; without loaded ones the error is raised until the next look. Thread-safe.

    Args:
        settings: Paths of checkpoints and MLflow.
        config: Addresses of the models.
        look_seconds: Time between two looks.
    """

    def __init__(self, settings: Settings, config: ServiceConfig, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._settings = settings
        self._addresses = _addresses(config)
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._loaded: Mapping[Role, _Loaded] = {}
        self._next_look = 0.0
        self._error: Exception | None = None

    def for_series(self, uid: str, *, may_look: bool = True) -> DiagnosisModels:
        """Return the models for a diagnosis of a series.

        Args:
            uid: SeriesInstanceUID, for ``has_seen_series``.
            may_look: Whether other models may be looked for, which takes seconds during an outage of MLflow; without
                loaded ones they are in any case.

        Raises:
            FileNotFoundError: If no models are loaded and there are none.
            CheckpointError: If no models are loaded and a file is damaged.
            ValueError: If no models are loaded and one is of another role.
            TrackerUnavailableError: If no models are loaded and MLflow cannot be reached.
        """
        models = {role: loaded.for_series(uid) for role, loaded in self._current(may_look=may_look).items()}
        return DiagnosisModels(
            segmenter=models["segmenter"], classifier=models["classifier"], malignancy=models.get("malignancy")
        )

    def versions(self) -> tuple[ModelVersion, ...]:
        """Return the present models in the order of their use; for errors see ``for_series``."""
        return self.for_series("").versions

    def _current(self, *, may_look: bool) -> Mapping[Role, _Loaded]:
        # Only the first load makes other threads wait.
        if (self._loaded and not may_look) or not self._lock.acquire(blocking=not self._loaded):
            return self._loaded
        try:
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + self._look_seconds
            if not self._loaded:
                assert self._error is not None
                raise self._error.with_traceback(None)
            return self._loaded
        finally:
            self._lock.release()

    def _look(self) -> None:
        try:
            places = find_places(self._settings, self._addresses)
            self._loaded = {role: self._at(role, place) for role, place in places.items()}
        except Exception as error:
            if not self._loaded:
                self._error = error
                return
            _log.warning("The loaded models stay in use, because others could not be loaded: %s", shown_reason(error))

    def _at(self, role: Role, place: ModelPlace) -> _Loaded:
        before = self._loaded.get(role)
        if before is not None and before.place == place:
            return before
        checkpoint = load_place(self._settings, place)
        model = model_of(role, checkpoint, address=place.address)
        _log.info("Loaded the %s %s %s.", role, checkpoint.name, checkpoint.version)
        return _Loaded(place=place, model=model, seen_series=frozenset(seen_data(checkpoint).series))
