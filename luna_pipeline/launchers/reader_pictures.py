"""Pictures of what the readers of LIDC-IDRI outlined."""

from collections.abc import Collection, Iterator
from pathlib import Path

from luna_pipeline.settings import Settings


def draw_readers(settings: Settings, folder: Path, series: Collection[str] = ()) -> Iterator[Path]:
    """Draw the readers' outlines of each nodule, and the ball of LUNA16's rule, over slices of its CT.

    Args:
        settings: Paths of the installation.
        folder: Folder of the pictures, ``<series uid>_<nodule>.png``.
        series: Series to draw; empty for all with readers.

    Yields:
        Each picture that was written.

    Raises:
        ValueError: If no series has readers.
    """
    from luna_pipeline.core.ct.reading import read_ct
    from luna_pipeline.core.sources.contour_picture import Ball, contour_picture
    from luna_pipeline.core.sources.lidc_readings import find_readings
    from luna_pipeline.core.sources.lidc_tables import nodules_of, placed_marks
    from luna_pipeline.core.storage.files import write_bytes
    from luna_pipeline.launchers.cutting import catalogue_of

    catalogue, _ = catalogue_of(settings)
    readable = catalogue[catalogue["is_readable"].astype(bool)]
    paths = dict(zip(readable["series_instance_uid"], readable["path"], strict=True))
    wanted = [uid for uid in paths if not series or uid in series]
    roots = [settings.data_dir / name for name in ("lidc_idri", "luna16") if (settings.data_dir / name).is_dir()]
    is_any = False
    for root in roots or [settings.data_dir]:
        for uid, reading in sorted(find_readings(root, wanted).of_series.items()):
            is_any = True
            ct = read_ct(settings.data_dir / paths[uid], series_instance_uid=uid)
            for number, nodule in enumerate(nodules_of(placed_marks(reading, ct.grid), reading.names)):
                picture = contour_picture(
                    ct.hounsfield,
                    ct.grid,
                    [placed.mark for placed in nodule.marks],
                    ball=Ball(nodule.center_xyz, nodule.diameter_mm),
                    title=f"nodule {number} of {uid}, {nodule.diameter_mm:.1f} mm, {nodule.num_readers} readers",
                    is_synthetic=settings.is_synthetic,
                )
                path = folder / f"{uid}_{number}.png"
                write_bytes(path, picture)
                yield path
    if not is_any:
        msg = f"A series must have readers' marks to be drawn, got none of {len(wanted)} series."
        raise ValueError(f"{msg} Put LIDC-IDRI's XML files there, or run `luna import_lidc_annotations`.")
