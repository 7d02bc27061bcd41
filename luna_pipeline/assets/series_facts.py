"""What Dagster's page shows of the cutouts of one series: file, class counts, subset, and a picture of six cutouts."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from luna_pipeline.assets import markdown

if TYPE_CHECKING:
    from luna_pipeline.core.cutouts.service import CtCutoutService

NUM_SHOWN = 6
BYTES_PER_MB = 1_000_000


class SeriesFacts:
    """Metadata of a series that was just cut.

    Args:
        service: Has the store, the catalogue and the candidates of all series.
        data: What the CTs are, in words.
    """

    def __init__(self, service: "CtCutoutService", *, data: str) -> None:
        self._service, self._data = service, data

    def of(self, uid: str, *, has_picture: bool = True) -> dict[str, Any]:
        """Return file, number of candidates of each class, subset, and a picture; nodules come first."""
        path = self._service.store.path(uid)
        counts = self._counts.get(uid, {})
        # LUNA16's subset is its fold. The table of folds is not upstream: other folds would make cutouts outdated.
        subset = {"subset": self._subsets[uid]} if uid in self._subsets else {}
        facts = {
            "file": dg.MetadataValue.path(str(path)),
            "num_class_1": int(counts.get(1, 0)),
            "num_class_0": int(counts.get(0, 0)),
            **subset,
        }
        # A file elsewhere would be fetched for the picture.
        return facts | self._picture(uid) if has_picture and isinstance(path, Path) else facts

    def _picture(self, uid: str) -> dict[str, Any]:
        from luna_pipeline.core.cutouts.sheet import cutout_strip

        cut = self._service.store.read(uid)
        # Stable: nodules first, the others in their order.
        shown = np.argsort(~np.isin(cut.candidate_id, self._nodules), kind="stable")[:NUM_SHOWN]
        if not len(shown):
            return {}
        strip = cutout_strip(cut.ct_chunks[shown, cut.ct_chunks.shape[1] // 2])
        words = f"middle slices of cutouts of a {self._data}, nodules first, research use only"
        return {"cutouts": dg.MetadataValue.md(markdown.picture(strip, words)), "data": self._data}

    @cached_property
    def _counts(self) -> dict[str, dict[int, int]]:
        table = self._service.candidates
        counted = table.groupby(["series_instance_uid", "class"], observed=True).size().reset_index(name="count")
        found: dict[str, dict[int, int]] = {}
        for row in counted.itertuples(index=False):
            found.setdefault(str(row[0]), {})[int(row[1])] = int(row[2])
        return found

    @cached_property
    def _subsets(self) -> dict[str, int]:
        known = self._service.catalogue.dropna(subset="subset")
        return {
            str(uid): int(subset) for uid, subset in zip(known["series_instance_uid"], known["subset"], strict=True)
        }

    @cached_property
    def _nodules(self) -> Any:
        table = self._service.candidates
        return table.loc[table["class"] == 1, "candidate_id"].to_numpy()
