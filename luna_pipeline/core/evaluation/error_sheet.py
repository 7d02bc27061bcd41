"""Sheet of a model's worst errors: false positives with high scores and nodules with low scores."""

import numpy as np
import pandas as pd

from luna_pipeline.core.cutouts.sheet import Section, sectioned_sheet
from luna_pipeline.core.cutouts.store import CutoutSource

# The last digits of a uid distinguish series in a caption.
NUM_UID_DIGITS = 8
NUM_EACH = 12


def error_sheet(
    predictions: pd.DataFrame,
    index: pd.DataFrame,
    store: CutoutSource,
    *,
    positives: str = "nodules",
    num_each: int = NUM_EACH,
    scale: int = 2,
    is_synthetic: bool = False,
) -> bytes:
    """Draw the candidates of class 0 with the highest scores and, below, those of class 1 with the lowest.

    The choice does not depend on a threshold.

    Args:
        predictions: Rows of one model: ``candidate_id``, ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``,
            ``class``, ``model``, ``probability``.
        index: Rows of the cutout index: ``candidate_id``, ``row``, ``diameter_mm``.
        store: Reads the cutouts.
        positives: Name of class 1, in the plural.
        num_each: Maximum number of candidates of each class.
        scale: Pixels per voxel; small cutouts need more, so that their captions fit.
        is_synthetic: Whether to label the data as synthetic.

    Returns:
        A greyscale PNG, below 74 kB for up to 12 of each class.

    Raises:
        ValueError: If the rows are not those of one model, a candidate is not in the index, or ``num_each`` is below 1.
    """
    models = list(predictions["model"].unique())
    if len(models) != 1 or num_each < 1:
        msg = f"Errors must be those of one model, one or more each, got {len(models)} models and {num_each} each"
        raise ValueError(f"{msg} ({', '.join(map(str, models)) or 'no row'}). Choose one model's rows.")
    worst = worst_errors(predictions, num_each=num_each)
    num_others, num_positives = (int((predictions["class"] == label).sum()) for label in (0, 1))
    above = f"{models[0]}: highest scores of the {num_others} that are no {positives} (x, y, z in mm)"
    below = f"{models[0]}: lowest scores of the {num_positives} {positives} (diameter)"
    headings = enumerate((above, below))
    sections = [_section(worst[worst["class"] == label], index, store, heading) for label, heading in headings]
    return sectioned_sheet(sections, scale=scale, is_synthetic=is_synthetic)


def worst_errors(predictions: pd.DataFrame, *, num_each: int = NUM_EACH) -> pd.DataFrame:
    """Return the rows of class 0 with the highest scores, then those of class 1 with the lowest; worst first.

    Args:
        predictions: Rows of one model: ``candidate_id``, ``class``, ``probability``.
        num_each: Maximum number of rows of each class.
    """
    # Ties in the order of the ids, so that the result is deterministic.
    falling = predictions.sort_values(["probability", "candidate_id"], ascending=[False, True])
    rising = predictions.sort_values(["probability", "candidate_id"])
    highest, lowest = falling[falling["class"] == 0], rising[rising["class"] == 1]
    return pd.concat([highest.head(num_each), lowest.head(num_each)])


def _section(chosen: pd.DataFrame, index: pd.DataFrame, store: CutoutSource, heading: str) -> Section:
    rows = index.loc[index["candidate_id"].isin(chosen["candidate_id"]), ["candidate_id", "row", "diameter_mm"]]
    known = chosen.merge(rows, on="candidate_id")
    if len(known) < len(chosen):
        missing = sorted(set(chosen["candidate_id"]) - set(known["candidate_id"]))
        msg = f"Every candidate must be in the cutout index, got {len(missing)} that are not (the first {missing[0]})."
        raise ValueError(f"{msg} Score the candidates again.")
    cutouts = zip(known["series_instance_uid"], known["row"], strict=True)
    chunks = [store.read(str(uid)).ct_chunks[row] for uid, row in cutouts]
    captions = [_caption(row) for _, row in known.iterrows()]
    return Section(heading, np.stack(chunks) if chunks else np.empty((0, 1, 1, 1), dtype=np.int16), captions)


def _caption(row: pd.Series) -> str:
    centre = f"{row['x_mm']:.0f}, {row['y_mm']:.0f}, {row['z_mm']:.0f}"
    is_sized = row["class"] == 1 and not pd.isna(row["diameter_mm"])
    where = f"{row['diameter_mm']:.1f} mm" if is_sized else centre
    return f"score {row['probability']:.3f}\n…{str(row['series_instance_uid'])[-NUM_UID_DIGITS:]}\n{where}"
