"""Tables of the report's page: findings, models, recipe; every text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from luna_pipeline.core.diagnosis.formatting import length, plural, share
from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule

_COLUMNS = (
    "Number",
    "Probability",
    "Malignancy",
    "Diameter (mm)",
    "Long axis (mm)",
    "Volume (mm³)",
    "x, y, z (mm)",
    "Voxel (index, row, col)",
)


def findings_table(diagnosis: Diagnosis, num_above: int, *, num_pictured: int) -> str:
    """Return the table of findings; those below the threshold are in a closed part of their own."""
    above, below = diagnosis.nodules[:num_above], diagnosis.nodules[num_above:]
    note = "" if diagnosis.model("malignancy") else " No malignancy model was used."
    parts = ['<section aria-labelledby="findings">\n<h2 id="findings">Findings</h2>']
    parts.append(
        "<p>Probability: of a nodule, calibrated if the classifier has a calibration. Diameter: of the ball of equal "
        "volume. Long axis: longest distance within an axial slice. x grows to the patient's left, y to the back, z to "
        f"the head; voxels count from 0 in the axes of the file.{note}</p>"
    )
    if above:
        parts.append(_findings(above, 1, "At or above the threshold", num_pictured))
    if below:
        table = _findings(below, num_above + 1, "Below the threshold", num_pictured)
        parts.append(
            f"<details>\n<summary>{plural(len(below), 'finding')} below the threshold</summary>\n{table}\n</details>"
        )
    if not diagnosis.nodules:
        parts.append("<p>No findings.</p>")
    return "\n".join([*parts, "</section>"])


def models_table(diagnosis: Diagnosis) -> str:
    """Return the table of models with versions, runs, weights and what is known of their training scans."""
    columns = ("Role", "Name", "Version", "Address", "MLflow run", "Threshold", "Training scans", "Weights (SHA-256)")
    rows = [
        (
            model.role,
            model.name,
            model.version,
            model.address,
            model.mlflow_run_id or "none",
            "none" if model.threshold is None else share(model.threshold),
            _training_scans(model),
            model.weights_sha256,
        )
        for model in diagnosis.models
    ]
    return _section("Models", _table(columns, rows, label="Models"))


def recipe_table(diagnosis: Diagnosis) -> str:
    """Return the values of the recipe."""
    rows = [(name.replace("_", " "), str(value)) for name, value in diagnosis.recipe.to_dict().items()]
    return _section("Recipe", _table(("Setting", "Value"), rows, label="Recipe"))


def _findings(nodules: Sequence[Nodule], first: int, caption: str, num_pictured: int) -> str:
    rows = [_row(number, nodule, number <= num_pictured) for number, nodule in enumerate(nodules, start=first)]
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in _COLUMNS)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="numbers">\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{''.join(rows)}</tbody>\n</table></div>"
    )


def _row(number: int, nodule: Nodule, is_pictured: bool) -> str:
    values = (
        share(nodule.probability),
        "none" if nodule.malignancy is None else share(nodule.malignancy),
        length(nodule.diameter_mm),
        length(nodule.long_axis_mm),
        f"{nodule.volume_mm3:.0f}",
        ", ".join(length(value) for value in nodule.center_xyz),
        ", ".join(str(int(value)) for value in nodule.center_irc),
    )
    head = f'<a href="#finding-{number}">{number}</a>' if is_pictured else str(number)
    return f'<tr><th scope="row">{head}</th>{"".join(f"<td>{escape(value)}</td>" for value in values)}</tr>\n'


def _training_scans(model: ModelVersion) -> str:
    if model.has_seen_series:
        return "this series was among them"
    return "unknown" if model.has_unknown_origin else "known, without this series"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, label: str) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{_cell(value)}</td>" for value in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>\n')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table></div>"
    )


def _cell(value: str) -> str:
    return f"<code>{escape(value)}</code>" if len(value) >= 32 else escape(value)


def _section(title: str, content: str) -> str:
    name = title.lower()
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n{content}\n</section>'
