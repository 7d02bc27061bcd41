"""Model cards: data, intended use, metrics and caveats of a registered model version."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luna_pipeline.core.evaluation.fold_names import folds_in_words
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.metrics.thresholds import FIXED_SENSITIVITY

_OUT_OF_SCOPE = "Research use only. Not a medical device: not for diagnosis, screening or any decision about a patient."
_CAVEATS = (
    "Labels are readers' marks and ratings, not pathology: a nodule that no reader marked counts as none.",
    "One data set: other scanners, protocols and populations were not tested.",
    "Candidates come from a detector; AUC, average precision and calibration say nothing of nodules that it missed.",
    "Intervals are of 95 %, by bootstrap over patients where they are known, else scans (CPM, sensitivities: scans): "
    "another training of the same recipe may differ by more.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPart:
    """Size of one part of the data.

    Attributes:
        name: ``training``, ``validation`` or ``test``.
        folds: Folds of the part; may be empty.
        num_series: Number of series.
        num_candidates: Number of candidates.
        num_nodules: Number of candidates of class 1.
    """

    name: str
    folds: tuple[int, ...]
    num_series: int
    num_candidates: int
    num_nodules: int


@dataclass(frozen=True, slots=True)
class Figure:
    """Value of a metric with its 95 % interval; undefined numbers are nan.

    Attributes:
        name: Name of the metric, such as ``CPM``.
        value: Value on the original data.
        lower: Lower bound.
        upper: Upper bound.
    """

    name: str
    value: float
    lower: float = math.nan
    upper: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationErrors:
    """Brier score and expected calibration error (ECE), before and after calibration; undefined values are nan."""

    brier: float = math.nan
    ece: float = math.nan
    brier_calibrated: float = math.nan
    ece_calibrated: float = math.nan


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ModelCard:
    """Content of a model card.

    Attributes:
        name: Name of the model.
        version: Version in luna_pipeline.
        registered_version: Version in MLflow's registry; None if not registered.
        purpose: Intended use, one sentence.
        is_synthetic: Whether the data are synthetic.
        num_folds: Number of folds of the data.
        parts: Training, validation and test.
        evaluated_folds: Folds that the figures are computed on; the candidates of each fold are scored by a model of
            this recipe that was not trained on it.
        figures: CPM, sensitivity at 1 false positive per scan, AUC, average precision, ...
        decision: Thresholds and calibration, chosen on the validation part.
        calibration: Errors before and after calibration on the evaluated folds.
        config_digest: Digest of the whole configuration.
        data_fingerprint: Fingerprint of training and validation data.
        num_parameters: Number of parameters of the network.
        training_seconds: Duration of the training; nan if not measured.
        mlflow_run_id: Id of the MLflow run; None without a run.
        leaks: Result of the leak check, see ``LeakReport``.
        subgroups: Rows of ``subgroup_report``; columns in the order of the first row.
        notes: Further information for users, in sentences.
        sample: How many of the test candidates were scored, in words; empty for all of them.
    """

    name: str
    version: str
    registered_version: str | None
    purpose: str
    is_synthetic: bool
    num_folds: int
    parts: Sequence[DataPart]
    evaluated_folds: tuple[int, ...]
    figures: Sequence[Figure]
    decision: Decision
    calibration: CalibrationErrors
    config_digest: str
    data_fingerprint: str
    num_parameters: int
    training_seconds: float = math.nan
    mlflow_run_id: str | None = None
    leaks: str = "not looked for."
    subgroups: Sequence[Mapping[str, Any]] = ()
    notes: str = ""
    sample: str = ""

    def to_markdown(self) -> str:
        """Return the card as Markdown; undefined values are written as ``undefined``.

        Source:
            Headings of Mitchell et al., Model cards for model reporting, FAT* 2019.
        """
        sections = {
            f"# Model card: {self.name} {self.version}": self._head(),
            "## Model details": self._details(),
            "## Intended use": [f"{self.purpose} {_OUT_OF_SCOPE}"],
            "## Data": self._data(),
            "## Metrics": self._metrics(),
            "## Evaluation": self._evaluation(),
            "## Caveats": self._caveats(),
        }
        return "\n\n".join("\n".join([heading, "", *lines]) for heading, lines in sections.items()) + "\n"

    def _head(self) -> list[str]:
        synthetic = " **Synthetic data: the figures say nothing about patients.**" if self.is_synthetic else ""
        sample = f" **{self.sample}**" if self.sample else ""
        return [f"**{_OUT_OF_SCOPE}**{synthetic}{sample}"]

    def _details(self) -> list[str]:
        details = {
            "registered version": self.registered_version or "none",
            "parameters": f"{self.num_parameters:,}",
            "training": "not measured" if math.isnan(self.training_seconds) else f"{self.training_seconds:,.0f} s",
            "MLflow run": self.mlflow_run_id or "none",
            "configuration": self.config_digest,
            "training and validation data": self.data_fingerprint,
        }
        notes = ["", self.notes] if self.notes else []
        return [*_table(("", ""), details.items()), *notes]

    def _data(self) -> list[str]:
        kind = "Synthetic chest CTs (a phantom)" if self.is_synthetic else "Chest CTs"
        rows = [
            (p.name, folds_in_words(p.folds, self.num_folds), p.num_series, p.num_candidates, p.num_nodules)
            for p in self.parts
        ]
        head = ("part", "folds", "series", "candidates", "nodules")
        return [f"{kind}. Leaks into the test part: {self.leaks}", "", *_table(head, rows)]

    def _metrics(self) -> list[str]:
        number = self.decision.num_validation_candidates
        chosen = f"chosen on {number:,} validation candidates" if number else "not chosen: without validation"
        rows = [
            ("sensitivity + specificity highest (Youden)", self.decision.threshold),
            ("F1 highest", self.decision.threshold_f1),
            (f"sensitivity at least {FIXED_SENSITIVITY:g}", self.decision.threshold_sensitivity),
        ]
        return [
            "CPM: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan (LUNA16). AUC, average "
            "precision: over candidates. Brier score, ECE: distance of scores from shares.",
            "",
            f"Thresholds, from which score on a candidate is called positive; {chosen}:",
            "",
            *_table(("rule", "threshold"), rows),
            "",
            *self._calibration_lines(),
        ]

    def _calibration_lines(self) -> list[str]:
        errors = self.calibration
        before = f"Brier score {_cell(errors.brier)}, ECE {_cell(errors.ece)}"
        if not self.decision.is_calibrated:
            return [f"Scores are uncalibrated: {before}."]
        after = f"Brier score {_cell(errors.brier_calibrated)}, ECE {_cell(errors.ece_calibrated)}"
        methods = {
            "temperature": f"temperature scaling by {_cell(self.decision.temperature)}",
            "platt": f"Platt scaling, slope {_cell(self.decision.platt_slope)} and intercept "
            f"{_cell(self.decision.platt_intercept)} of the log odds",
            "isotonic": f"isotonic regression of {len(self.decision.isotonic_scores)} knots",
        }
        method = f"{methods[self.decision.method]}, fitted on the validation part"
        return [f"Calibration: {method}. Before: {before}. After: {after}."]

    def _evaluation(self) -> list[str]:
        rows = [(figure.name, figure.value, _interval(figure)) for figure in self.figures]
        lines = [f"Figures of {folds_in_words(self.evaluated_folds, self.num_folds)}.", ""]
        lines += _table(("figure", "value", "95 % interval"), rows)
        if self.subgroups:
            head = list(self.subgroups[0])
            lines += ["", "Subgroups:", "", *_table(head, ([row[name] for name in head] for row in self.subgroups))]
        return lines

    def _caveats(self) -> list[str]:
        caveats = list(_CAVEATS)
        if len(set(self.evaluated_folds)) < self.num_folds:
            folds = folds_in_words(self.evaluated_folds, self.num_folds)
            caveats.append(f"Figures of {folds} only: not those of a whole cross-validation.")
        if self.is_synthetic:
            caveats.append("Synthetic data: labels are those of its maker, and nothing follows for patients.")
        return [f"- {caveat}" for caveat in (*caveats, _OUT_OF_SCOPE)]


def _interval(figure: Figure) -> str:
    is_defined = not math.isnan(figure.lower) and not math.isnan(figure.upper)
    return f"{_cell(figure.lower)} to {_cell(figure.upper)}" if is_defined else "undefined"


def _table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_cell(value) for value in line)} |" for line in lines]


def _cell(value: Any) -> str:
    """Return a formatted value; a bar is escaped, because it would end the cell."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
