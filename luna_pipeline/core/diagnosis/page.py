"""The report of a diagnosis as one HTML file, without scripts and without outside addresses."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.diagnosis.formatting import TIMES, length, plural, share
from luna_pipeline.core.diagnosis.montage import coronal_overview
from luna_pipeline.core.diagnosis.page_tables import findings_table, models_table, recipe_table
from luna_pipeline.core.diagnosis.pictures import SIZE_PX, field_of_view, nodule_pictures
from luna_pipeline.core.diagnosis.result import Diagnosis, Nodule
from luna_pipeline.core.diagnosis.tables import INTENDED_USE

MAX_PICTURED = 30
"""Largest number of nodules with pictures: about 2 MB."""

_JPEG_QUALITY = 88
_USE = f'<p class="use" role="note">{INTENDED_USE}</p>'
_SYNTHETIC = '<p class="synthetic" role="note">Synthetic data: the CT is a computed phantom, not a patient.</p>'
# Nothing is loaded from outside, and no script runs, also if a text were not escaped.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report_html(diagnosis: Diagnosis, hounsfield: NDArray[np.int16], *, lungs: bytes | None = None) -> str:
    """Return the report of a diagnosis as one HTML page; equal diagnoses give equal pages.

    It holds the table of findings, an axial, a coronal and a sagittal picture of each nodule at or above the
    classifier's threshold (the first 30), notes, models, recipe and the identity of the input. It holds no name or id
    of a patient, and no address outside the page.

    Args:
        diagnosis: The diagnosis.
        hounsfield: HU of its CT, (I, R, C), in the file's axes.
        lungs: PNG of the searched lungs, if they are to be shown.
    """
    num_above = sum(nodule.probability >= diagnosis.threshold for nodule in diagnosis.nodules)
    pictured = diagnosis.nodules[: min(num_above, MAX_PICTURED)]
    title = "Nodules in a chest CT" + (" (synthetic)" if diagnosis.is_synthetic else "")
    style = (files(__package__) / "report.css").read_text()
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>",
        f"<header>\n<h1>{escape(title)}</h1>\n{_USE}",
        _SYNTHETIC if diagnosis.is_synthetic else "",
        "</header>\n<main>",
        _summary(diagnosis, num_above),
        findings_table(diagnosis, num_above, num_pictured=len(pictured)),
        _overview(diagnosis, hounsfield, pictured, lungs),
        _pictures(diagnosis, hounsfield, pictured, num_above),
        models_table(diagnosis),
        recipe_table(diagnosis),
        _input(diagnosis),
        f"</main>\n<footer>\n{_USE}\n</footer>\n</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _summary(diagnosis: Diagnosis, num_above: int) -> str:
    threshold, num_all = share(diagnosis.threshold), len(diagnosis.nodules)
    if not num_all:
        text = "The search found nothing. This does not mean that there is no nodule."
    else:
        below = f"; {num_all - num_above} below it" if num_all > num_above else ""
        text = f"{plural(num_above, 'finding')} at or above the classifier's threshold of {threshold}{below}."
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in diagnosis.notes)
    listed = f'<h3>Notes</h3>\n<ul class="notes">\n{notes}</ul>' if notes else ""
    return f'<section aria-label="Summary">\n<p><strong>{escape(text)}</strong></p>\n{listed}\n</section>'


def _overview(
    diagnosis: Diagnosis, hounsfield: NDArray[np.int16], pictured: Sequence[Nodule], lungs: bytes | None
) -> str:
    overview = coronal_overview(diagnosis, hounsfield, pictured)
    marked = f"; circles mark the findings 1 to {len(pictured)}" if len(pictured) > 1 else ""
    marked = "; the circle marks finding 1" if len(pictured) == 1 else marked
    text = f"Mean from front to back, the patient's right on the left{marked}"
    figures = [_figure(_jpeg_uri(overview), overview.size, f"Coronal overview of the chest{marked}.", text)]
    if lungs is not None:
        with Image.open(io.BytesIO(lungs)) as picture:
            size = picture.size
        uri = f"data:image/png;base64,{base64.b64encode(lungs).decode()}"
        figures.append(_figure(uri, size, "Outline of the lungs in the CT.", "Lungs that were found"))
    return (
        '<section aria-labelledby="overview">\n<h2 id="overview">Overview</h2>\n'
        f'<div class="planes overview">\n{"".join(figures)}</div>\n</section>'
    )


def _pictures(diagnosis: Diagnosis, hounsfield: NDArray[np.int16], pictured: Sequence[Nodule], num_above: int) -> str:
    if not pictured:
        return ""
    left_out = num_above - len(pictured)
    more = (
        f"<p>{plural(left_out, 'more finding')} at or above the threshold: in the table only.</p>" if left_out else ""
    )
    articles = "\n".join(
        _article(number, nodule, diagnosis, hounsfield) for number, nodule in enumerate(pictured, start=1)
    )
    return (
        '<section aria-labelledby="pictures">\n<h2 id="pictures">Pictures</h2>\n'
        "<p>Lung window (level -600, width 1500 HU), through the centre of mass; the patient's right is on the left of "
        "axial and coronal pictures, the front on the left of sagittal ones. The yellow line runs just outside the "
        f"segmented voxels.</p>\n{more}\n{articles}\n</section>"
    )


def _article(number: int, nodule: Nodule, diagnosis: Diagnosis, hounsfield: NDArray[np.int16]) -> str:
    view, field_mm = AxialView(diagnosis.grid), field_of_view(nodule, diagnosis.grid)
    slice_number = int(view.grid.nearest_voxel(nodule.center_xyz)[0]) + 1
    place = f"axial slice {slice_number} of {view.grid.size_irc[0]} from the feet"
    malignancy = "" if nodule.malignancy is None else f", malignancy {share(nodule.malignancy)}"
    facts = (
        f"Probability {share(nodule.probability)}{malignancy}, diameter {length(nodule.diameter_mm)} mm, "
        f"long axis {length(nodule.long_axis_mm)} mm, volume {nodule.volume_mm3:.0f} mm³, {place}"
    )
    figures = "".join(
        _figure(
            _jpeg_uri(picture),
            picture.size,
            f"{plane.capitalize()} picture of finding {number}, {field_mm:g} mm wide, with its outline.",
            f"{plane}, {field_mm:g} {TIMES} {field_mm:g} mm",
        )
        for plane, picture in nodule_pictures(nodule, hounsfield, diagnosis.grid, size_px=SIZE_PX).items()
    )
    heading = f'<h3 id="finding-{number}-title">Finding {number}</h3>'
    return (
        f'<article id="finding-{number}" aria-labelledby="finding-{number}-title">\n{heading}\n'
        f'<p>{escape(facts)}</p>\n<div class="planes">\n{figures}</div>\n</article>'
    )


def _figure(uri: str, size: tuple[int, int], alternative: str, caption: str) -> str:
    width, height = size
    picture = f'<img src="{uri}" width="{width}" height="{height}" alt="{escape(alternative)}">'
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _input(diagnosis: Diagnosis) -> str:
    grid = diagnosis.grid
    columns_mm, rows_mm, slices_mm = grid.spacing_mm
    num_slices, num_rows, num_cols = grid.size_irc
    runs = ", ".join(f"{tracker} {run_id}" for tracker, run_id in sorted(diagnosis.run_ids.items()))
    lungs = "not searched for" if diagnosis.lung_volume_ml is None else f"{diagnosis.lung_volume_ml:.0f} ml"
    values = [
        ("Series", diagnosis.series_instance_uid),
        ("Fingerprint", diagnosis.input_fingerprint),
        ("Size", f"{num_slices} {TIMES} {num_rows} {TIMES} {num_cols} voxels (index, row, col)"),
        ("Spacing", f"{slices_mm:.4g} {TIMES} {rows_mm:.4g} {TIMES} {columns_mm:.4g} mm"),
        ("Lungs", lungs),
        ("Runs", runs or "none"),
    ]
    return (
        '<section aria-labelledby="input">\n<h2 id="input">Input</h2>\n'
        f'<div class="scroll"><table>\n<tbody>\n{"".join(_lines(values))}</tbody>\n</table></div>\n</section>'
    )


def _lines(values: Iterable[tuple[str, str]]) -> Iterable[str]:
    return (
        f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(value)}</code></td></tr>\n' for name, value in values
    )


def _jpeg_uri(picture: Image.Image) -> str:
    """Return a picture as an address that holds it; colours at full resolution, for the thin outline."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
