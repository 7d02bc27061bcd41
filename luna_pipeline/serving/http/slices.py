"""What the page's viewer shows: geometry and findings of a diagnosed CT, and its slices as raw HU."""

import base64
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Response
from fastapi import Path as PathValue
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.diagnosis.manifest import MANIFEST, manifest_of
from luna_pipeline.core.diagnosis.pictures import PLANES, mask_start_in_view
from luna_pipeline.core.diagnosis.result import Diagnosis, Nodule
from luna_pipeline.serving.folders import INPUT, OUTPUT
from luna_pipeline.serving.http.problems import Problem, documented
from luna_pipeline.serving.http.service import Service
from luna_pipeline.serving.http.views import RESEARCH_USE
from luna_pipeline.serving.job import UnknownJobError
from luna_pipeline.serving.voxels import kept_voxels, made_voxels, plane_slice

MAX_FINDINGS = 500
"""Findings of a view, the most probable ones; further ones are in ``nodules.json``."""

Triple = tuple[int, int, int]


class PlaneView(BaseModel):
    """A plane: axes (0, 1, 2) of index, row and col, and the patient's sides at left, right, top and bottom."""

    axis: int
    down: int
    across: int
    is_upside_down: bool = Field(description="Whether the top of a slice is the end of the axis `down`.")
    letters: tuple[str, str, str, str]


class FindingView(BaseModel):
    """A finding in voxels of the view; the segmented voxels are bits of a box, eight a byte, in C order, base64."""

    number: int
    probability: float
    malignancy: float | None
    diameter_mm: float
    long_axis_mm: float
    volume_mm3: float
    center_irc: tuple[float, float, float]
    box_start_irc: Triple
    box_shape_irc: Triple
    mask: str


class CtView(BaseModel):
    """Axial view of a CT: index towards the head, row towards the back, col towards the patient's left."""

    notice: str = RESEARCH_USE
    is_synthetic: bool
    series_instance_uid: str
    size_irc: Triple
    spacing_irc_mm: tuple[float, float, float]
    planes: dict[str, PlaneView]
    threshold: float = Field(description="Probability from which the classifier's decision is positive.")
    num_findings: int
    findings: list[FindingView] = Field(description=f"The first {MAX_FINDINGS}, by falling probability.")
    notes: list[str]


def router(service: Service) -> APIRouter:
    """Return the routes of the viewer."""
    routes = APIRouter(prefix="/v1/diagnoses/{job_id}", tags=["viewer"])
    # Requests for a CT that is being read wait outside the threads that answer all others.
    making = CapacityLimiter(1)

    @routes.get("/view", responses=documented(404, 409, 503))
    def view(job_id: str) -> CtView:
        """Return the geometry of a diagnosed CT and its findings."""
        return _view_of(_diagnosis(service, job_id))

    @routes.get(
        "/slices/{plane}/{number}",
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": {}}, "description": "int16 HU, little-endian, row by row"},
            **documented(404, 409, 422, 503, 507),
        },
    )
    async def slice_of(
        job_id: str,
        plane: Literal["axial", "coronal", "sagittal"],
        number: Annotated[int, PathValue(ge=0, le=1_000_000)],
    ) -> Response:
        """Return a slice as it is shown: rows from top to bottom, columns from left to right."""
        await run_in_threadpool(_diagnosis, service, job_id)
        folder = service.folders.job(job_id)
        try:
            voxels = await run_in_threadpool(kept_voxels, folder / OUTPUT)
            if voxels is None:
                voxels = await to_thread.run_sync(made_voxels, folder / INPUT, folder / OUTPUT, limiter=making)
            content = await run_in_threadpool(_slice_bytes, voxels, plane, number)
        except IndexError as error:
            raise Problem(404, str(error)) from error
        except FileNotFoundError as error:
            # It was deleted meanwhile.
            raise UnknownJobError(job_id) from error
        except UnreadableCtError as error:
            rule = "Slices are shown of a CT whose files are as they were diagnosed, got damaged ones."
            raise Problem(409, f"{rule} Delete the diagnosis and send the CT again.") from error
        return Response(content, media_type="application/octet-stream")

    return routes


def _slice_bytes(voxels: NDArray[np.int16], plane: str, number: int) -> bytes:
    return np.ascontiguousarray(plane_slice(voxels, plane, number), dtype="<i2").tobytes()


def _diagnosis(service: Service, job_id: str) -> Diagnosis:
    """Return a complete diagnosis.

    Raises:
        UnknownJobError: If there is no such job.
        Problem: If it is not done.
    """
    try:
        path = service.folders.job(job_id) / OUTPUT / MANIFEST
        return _recorded(path, path.stat().st_mtime_ns)
    except (FileNotFoundError, ValueError) as error:
        state = service.jobs.get(job_id).state
        rule = f"Slices are shown of a diagnosis that is done, got one that is {state}."
        raise Problem(409, f"{rule} Wait until it is done.") from error


# A page asks for many slices; all need the series, and parsing the masks takes longer than a slice.
@lru_cache(maxsize=4)
def _recorded(path: Path, _changed_ns: int) -> Diagnosis:
    return manifest_of(read_json_object(path, "A diagnosis", advice="Diagnose the CT again.")).diagnosis


def _view_of(diagnosis: Diagnosis) -> CtView:
    view = AxialView(diagnosis.grid)
    num_slices, num_rows, num_cols = view.grid.size_irc
    slices_mm, rows_mm, cols_mm = (float(value) for value in view.grid.spacing_irc)
    return CtView(
        is_synthetic=diagnosis.is_synthetic,
        series_instance_uid=diagnosis.series_instance_uid,
        size_irc=(num_slices, num_rows, num_cols),
        spacing_irc_mm=(slices_mm, rows_mm, cols_mm),
        planes={
            name: PlaneView(
                axis=plane.axis,
                down=plane.down,
                across=plane.across,
                is_upside_down=plane.is_upside_down,
                letters=plane.letters,
            )
            for name, plane in PLANES.items()
        },
        threshold=diagnosis.threshold,
        num_findings=len(diagnosis.nodules),
        findings=[_finding(number, it, view) for number, it in enumerate(diagnosis.nodules[:MAX_FINDINGS], start=1)],
        notes=list(diagnosis.notes),
    )


def _finding(number: int, nodule: Nodule, view: AxialView) -> FindingView:
    mask = view.of(nodule.mask)
    index, row, col = (float(value) for value in view.grid.world_to_voxel(nodule.center_xyz))
    num_slices, num_rows, num_cols = mask.shape
    return FindingView(
        number=number,
        probability=nodule.probability,
        malignancy=nodule.malignancy,
        diameter_mm=nodule.diameter_mm,
        long_axis_mm=nodule.long_axis_mm,
        volume_mm3=nodule.volume_mm3,
        center_irc=(index, row, col),
        box_start_irc=mask_start_in_view(nodule, view),
        box_shape_irc=(num_slices, num_rows, num_cols),
        mask=base64.b64encode(np.packbits(mask).tobytes()).decode(),
    )
