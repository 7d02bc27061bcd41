"""A diagnosis from the files of a CT to the files of its result."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from luna_pipeline.core.config.checks import check_choice
from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.diagnosis.diagnose import DiagnosisModels, diagnose
from luna_pipeline.core.diagnosis.dicom_deidentified import pseudonym
from luna_pipeline.core.diagnosis.dicom_output import DicomOutput, dicom_output
from luna_pipeline.core.diagnosis.manifest import CODE_VERSION, MANIFEST, Manifest, manifest_json, manifest_of
from luna_pipeline.core.diagnosis.montage import montage_png
from luna_pipeline.core.diagnosis.page import report_html
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe, default
from luna_pipeline.core.diagnosis.result import Diagnosis
from luna_pipeline.core.diagnosis.stages import OnProgress, Stages
from luna_pipeline.core.diagnosis.tables import nodules_csv, nodules_json, png_with_provenance
from luna_pipeline.core.lungs.mask import Lungs, find_lungs
from luna_pipeline.core.lungs.picture import lungs_png
from luna_pipeline.core.storage.files import (
    AnyPath,
    exists,
    remove,
    sha256_of,
    sweep_temporary_files,
    write_bytes,
)
from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.launchers.diagnosis.input import DiagnosisInput, read_input
from luna_pipeline.launchers.diagnosis.models import find_models
from luna_pipeline.settings import Settings

UNCHANGED = "unchanged"
"""Stage of a diagnosis that was there already."""
DEVICES = ("cpu", "cuda")
OUTPUTS = ("nodules.csv", "nodules.json", "lungs.png", "montage.png", "report.html", "seg.dcm", "sr.dcm")
"""All outputs but the manifest; other files in the folder are never touched."""

LOCK = ".diagnosis.lock"
"""Locked while a diagnosis is made; it stays in the folder, empty."""


@dataclass(frozen=True, kw_only=True)
class DiagnosisRequest:
    """A CT, how it is diagnosed, and where the result is written.

    Attributes:
        ct: DICOM folder, one of its files, or a volume file.
        out: Folder of the outputs, created if it is missing.
        recipe: How the CT is searched.
        segmenter: Address of the segmenter; None for the default, see ``find_models``.
        classifier: Address of the nodule classifier; None for the default.
        malignancy: Address of the malignancy classifier; None for the default, if there is one.
        series: SeriesInstanceUID, needed where the folder holds several CTs.
        device: ``cpu`` or ``cuda``.
        writes_dicom: Whether DICOM objects are written for DICOM input.
        assumes_hu: Whether CTs without air near -1000 or tissue near 0 are accepted.
        again: Whether a complete diagnosis of the same input, models and recipe is made again.
        run_ids: Ids of the runs that make it, by tracker.
        patient_key: Secret key of pseudonyms: outputs are de-identified with it; None for DICOM objects of the patient
            and study. Other outputs never hold values of the patient, but the name of a volume file.
    """

    ct: Path
    out: AnyPath
    recipe: DiagnosisRecipe = field(default_factory=default)
    segmenter: str | None = None
    classifier: str | None = None
    malignancy: str | None = None
    series: str | None = None
    device: str = "cpu"
    writes_dicom: bool = True
    assumes_hu: bool = False
    again: bool = False
    run_ids: Mapping[str, str] = field(default_factory=dict)
    patient_key: bytes | None = field(default=None, repr=False)


def diagnose_ct(
    settings: Settings,
    request: DiagnosisRequest,
    *,
    models: Callable[[str], DiagnosisModels] | None = None,
    on_progress: OnProgress | None = None,
) -> Diagnosis:
    """Diagnose a CT and write all outputs atomically, ``diagnosis.json`` last.

    A complete diagnosis of the same input, models and recipe in the folder is returned as it is, with one progress
    message of the stage ``UNCHANGED``.

    Args:
        settings: Paths of checkpoints and MLflow.
        request: CT, recipe, models and outputs.
        models: Returns loaded models for a SeriesInstanceUID, instead of those that the request names.
        on_progress: Called during each stage.

    Raises:
        FileNotFoundError: If there is no CT or no model.
        UnreadableCtError: If the CT cannot be used.
        NoLungsError: If the recipe searches the lungs and there are none.
        ValueError: If a model cannot be used, the device is not there, or the folder is the CT's.
    """
    _check(request)
    stages = Stages(on_progress)
    with stages.timed("reading"):
        given = read_input(request.ct, series=request.series, assume_hu=request.assumes_hu)
    with stages.timed("models"):
        used = _models(settings, request, given) if models is None else models(given.series_instance_uid)
    given = _deidentified(request, given)
    if (recorded := _unchanged(request, given, used, stages)) is not None:
        return recorded
    lungs = None
    if request.recipe.lungs_only:
        with stages.timed("lungs"):
            lungs = find_lungs(given.ct.hounsfield, given.ct.grid)
    with _reserved(request.out):
        # Another process may have made it meanwhile.
        if (recorded := _unchanged(request, given, used, stages)) is not None:
            return recorded
        diagnosis = diagnose(
            given.ct, used, request.recipe, lungs=lungs, device=request.device, on_progress=on_progress
        )
        diagnosis = replace(
            diagnosis,
            input_fingerprint=given.fingerprint,
            notes=(*given.notes, *diagnosis.notes),
            run_ids=dict(request.run_ids),
            is_synthetic=given.is_synthetic,
        )
        with stages.timed("outputs"):
            diagnosis, digests = _written(request, diagnosis, given, lungs)
        diagnosis = replace(diagnosis, seconds=_in_order({**stages.seconds, **diagnosis.seconds}))
        _write_manifest(request, given, diagnosis, digests)
    return diagnosis


def _deidentified(request: DiagnosisRequest, given: DiagnosisInput) -> DiagnosisInput:
    """Return the input under the pseudonym of its name, if it is a volume file: its name may be that of the patient."""
    if request.patient_key is None or given.is_dicom:
        return given
    name = pseudonym(given.series_instance_uid, request.patient_key)
    return replace(given, ct=replace(given.ct, series_instance_uid=name))


def _write_manifest(
    request: DiagnosisRequest, given: DiagnosisInput, diagnosis: Diagnosis, digests: Mapping[str, str]
) -> None:
    has_dicom, is_deidentified = _wants_dicom(request, given), request.patient_key is not None
    manifest = Manifest(diagnosis=diagnosis, outputs=digests, has_dicom=has_dicom, is_deidentified=is_deidentified)
    write_bytes(request.out / MANIFEST, manifest_json(manifest))


def _models(settings: Settings, request: DiagnosisRequest, given: DiagnosisInput) -> DiagnosisModels:
    return find_models(
        settings,
        segmenter=request.segmenter,
        classifier=request.classifier,
        malignancy=request.malignancy,
        series=given.series_instance_uid,
    )


def _unchanged(
    request: DiagnosisRequest, given: DiagnosisInput, models: DiagnosisModels, stages: Stages
) -> Diagnosis | None:
    """Return the diagnosis that is there already, None if it is to be made."""
    recorded = None if request.again else recorded_diagnosis(request, given, models)
    if recorded is not None:
        with stages.timed(UNCHANGED):
            pass
    return recorded


@contextlib.contextmanager
def _reserved(out: AnyPath) -> Iterator[None]:
    """Create the output folder and keep other processes out of it; in S3 nothing is locked.

    Raises:
        ValueError: If it cannot be written to; the CT has not been searched yet.
    """
    if not isinstance(out, Path):
        yield
        return
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(locked(out / LOCK, waits=True))
        except OSError as error:
            msg = f"The output folder must be writable, got: {error.strerror} ({out}). Name another folder."
            raise ValueError(msg) from error
        yield


def recorded_diagnosis(request: DiagnosisRequest, given: DiagnosisInput, models: DiagnosisModels) -> Diagnosis | None:
    """Return the complete diagnosis of the same input, models and recipe in the output folder, None without one."""
    try:
        values = read_json_object(request.out / MANIFEST, "A diagnosis", advice="Diagnose the CT again.")
        manifest = manifest_of(values)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    found = manifest.diagnosis
    wanted = (CODE_VERSION, given.fingerprint, request.recipe, models.versions)
    if (manifest.code_version, found.input_fingerprint, found.recipe, found.models) != wanted:
        return None
    if manifest.is_deidentified != (request.patient_key is not None):
        return None
    if _wants_dicom(request, given) and not manifest.has_dicom:
        return None
    is_whole = all(_has(request.out / name, digest) for name, digest in manifest.outputs.items())
    return found if is_whole else None


def _check(request: DiagnosisRequest) -> None:
    """Refuse a request before anything is read."""
    check_choice("device", request.device, DEVICES)
    if request.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("The device cuda must be there, got no CUDA device. Leave --device out.")
    if not isinstance(request.out, Path):
        return
    if request.out.exists() and not request.out.is_dir():
        msg = f"The output must be a folder, got a file ({request.out}). Name a folder."
        raise ValueError(msg)
    if request.ct.is_dir() and request.ct.resolve() in (request.out.resolve(), *request.out.resolve().parents):
        msg = f"The output folder must lie outside the CT's folder, got {request.out}. Name another folder."
        raise ValueError(msg)


def _wants_dicom(request: DiagnosisRequest, given: DiagnosisInput) -> bool:
    return given.is_dicom and request.writes_dicom


def _written(
    request: DiagnosisRequest, diagnosis: Diagnosis, given: DiagnosisInput, lungs: Lungs | None
) -> tuple[Diagnosis, dict[str, str]]:
    """Write all outputs but the manifest; return the diagnosis with notes on them, and their digests."""
    if isinstance(request.out, Path):
        sweep_temporary_files(request.out)
    dicom = DicomOutput()
    if _wants_dicom(request, given):
        dicom = dicom_output(diagnosis, given.dicom_files, patient_key=request.patient_key)
    diagnosis = replace(diagnosis, notes=(*diagnosis.notes, *dicom.notes))
    digests: dict[str, str] = {}
    # Without it the folder holds no complete diagnosis while outputs are replaced.
    remove(request.out / MANIFEST)
    for name, content in (*dicom.files.items(), *_contents(diagnosis, given, lungs)):
        write_bytes(request.out / name, content)
        digests[name] = hashlib.sha256(content).hexdigest()
    for name in OUTPUTS:
        if name not in digests:
            remove(request.out / name)
    return diagnosis, digests


def _contents(diagnosis: Diagnosis, given: DiagnosisInput, lungs: Lungs | None) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each output but DICOM and manifest; none holds seconds: a rerun gives equal bytes."""
    ct = given.ct
    yield "nodules.csv", nodules_csv(diagnosis)
    yield "nodules.json", nodules_json(diagnosis)
    picture = None
    if lungs is not None:
        picture = lungs_png(ct.hounsfield, ct.grid, lungs, is_synthetic=given.is_synthetic)
        picture = png_with_provenance(picture, diagnosis)
        yield "lungs.png", picture
    yield "montage.png", montage_png(diagnosis, ct.hounsfield)
    yield "report.html", report_html(diagnosis, ct.hounsfield, lungs=picture).encode()


def _has(path: AnyPath, digest: str) -> bool:
    return exists(path) and sha256_of(path) == digest


def _in_order(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of the stages in their order, the outputs last."""
    return {stage: value for stage, value in seconds.items() if stage != "outputs"} | {"outputs": seconds["outputs"]}
