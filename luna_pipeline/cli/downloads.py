"""Command that downloads LUNA16."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.terminal import Bars
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.storage.transfer_progress import Progress

_LINE_EVERY_SECONDS = 10.0


def _numbers(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Parse subsets: ``all``, ``none``, or numbers from 0 to 9 with commas."""
    if value.strip() in ("all", "none"):
        return tuple(range(10)) if value.strip() == "all" else ()
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and len(part) == 1 for part in parts):
        rule = "Subsets must be numbers from 0 to 9, `all` or `none`"
        raise click.BadParameter(f"{rule}, got {value}. Example: 0,1")
    return tuple(dict.fromkeys(map(int, parts)))


@command(
    "download_luna16", "luna download_luna16 --subsets 0,1", "luna download_luna16 --subsets none --to /data/luna16"
)
@click.option(
    "--subsets",
    callback=_numbers,
    required=True,
    metavar="N,N",
    help="Numbers of subsets, 0 to 9; `all`; or `none` for the tables alone.",
)
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), help="Folder of the download. Default: LUNA_DATA_DIR."
)
@click.option("--from", "base", metavar="URL", help="Server with Zenodo's interface. Default: https://zenodo.org/api")
@click.option("--keep-archives", is_flag=True, help="Keep each archive in the folder after it was unpacked.")
@click.option("--no-tables", is_flag=True, help="Download no CSV tables.")
@click.option(
    "--connections", default=4, show_default=True, type=click.IntRange(1, 16), help="Number of requests at a time."
)
@click.option(
    "--checksums",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Lines `MD5 BYTES NAME` of another edition of the archives. Default: the published ones.",
)
@click.option("--chunk-kib", default=16 << 10, type=click.IntRange(64), hidden=True)
def download_luna16_command(**options: Any) -> None:
    """Download and unpack subsets of LUNA16 with its tables.

    A repeated call continues where the last one ended. Each subset takes about 6.6 GB packed and 12 GB unpacked, and is
    usable as soon as it is reported.
    """
    from luna_pipeline.core.sources.luna16_archives import ZENODO, read_checksums
    from luna_pipeline.launchers.download_request import DownloadRequest
    from luna_pipeline.launchers.downloads import download_luna16, luna16_folder

    request = DownloadRequest(
        folder=(options["to"] or luna16_folder(Settings.from_environment())).absolute(),
        subsets=options["subsets"],
        base=options["base"] or ZENODO,
        editions=read_checksums(options["checksums"]) if options["checksums"] else None,
        keeps_archives=options["keep_archives"],
        has_tables=not options["no_tables"],
        num_connections=options["connections"],
        chunk_bytes=options["chunk_kib"] << 10,
    )
    with _Terminal() as terminal:
        summary = download_luna16(request, terminal)
    for name in summary.tables:
        click.echo(f"{name}: written.")
    if summary.failures:
        msg = f"Everything must arrive, got {len(summary.failures)} failures, named above."
        raise click.ClickException(f"{msg} Run the command again: it continues where this one ended.")
    click.echo(f"LUNA16 is in {request.folder}: cite Setio et al. 2017 and LIDC-IDRI. Research use only.")


class _Terminal(Bars):
    """Reports lines, and the progress as a bar or, without a terminal that can draw it, as a line now and then."""

    def __init__(self) -> None:
        super().__init__(has_bytes=True)
        self._next_line = time.monotonic() + _LINE_EVERY_SECONDS

    def report(self, line: str) -> None:
        self.line(line)

    def on_progress(self, progress: "Progress") -> None:
        left = "" if progress.seconds_left is None else f"{progress.seconds_left:.0f} s left"
        rate = f"{progress.bytes_per_second / 1e6:.1f} MB/s {left}"
        self.show("downloading", progress.done_bytes, progress.total_bytes, rate)
        if not self.are_drawn and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_EVERY_SECONDS
            click.echo(progress.as_line())
