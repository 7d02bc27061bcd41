"""Measure the download of an archive from a local server: ``python -m benchmarks.bench_download --out FOLDER``.

Compared are curl, a plain stream of httpx, and the project's ranges; then the whole way to unpacked files (curl, MD5
and zipfile one after the other against ``download_luna16``). The server is a process of its own on the same machine,
once as fast as it can and once with a limit for each connection. Run it on an idle machine.
"""

import argparse
import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.derived import at_least
from benchmarks.timing import OnRun, Timing, Way, measure
from luna_pipeline.core.sources.luna16_archives import PublishedFile
from luna_pipeline.core.storage.chunked_file import ChunkedFile
from luna_pipeline.core.storage.range_download import RangeDownload
from luna_pipeline.core.storage.transfer_progress import Progress
from luna_pipeline.launchers.download_request import DownloadRequest
from luna_pipeline.launchers.downloads import download_luna16

NAME = "subset0.zip"
# Of curl's speed; a limited connection's speed with four connections.
CURL_GOAL, WHOLE_GOAL, LIMITED_GOAL = 0.5, 0.9, 3.0


def run(
    repeats: int = 3, *, num_bytes: int = 256 << 20, limit: int = 20 << 20, on_run: OnRun | None = None
) -> dict[str, Any]:
    """Measure all procedures alternately.

    Args:
        repeats: Timed runs of each procedure, after one to warm up.
        num_bytes: Bytes of the members, of which half can be packed.
        limit: Bytes a second of each connection to the limited server.
        on_run: Called with the name of a procedure before each of its runs.

    Returns:
        The timings by procedure, MB/s, the ratios and the goals.
    """
    with tempfile.TemporaryDirectory(prefix="luna-bench-") as name:
        folder = Path(name)
        published = make_archive(folder / NAME, num_bytes)
        with server(folder / NAME) as fast, server(folder / NAME, limit) as limited:
            ways = [*_ways(fast, folder, published, ""), *_ways(limited, folder, published, "limited_")[:3:2]]
            timings = measure(ways, repeats=repeats, on_run=on_run)
    rates = {name: round(published.num_bytes / timing.median / 1e6, 1) for name, timing in timings.items()}
    return {
        "measured": "seconds from the first request to files on the disk",
        "num_bytes": published.num_bytes,
        "limit_mb_per_second": limit / 1e6,
        **{name: timing.as_dict() for name, timing in timings.items()},
        "mb_per_second": rates,
        "goals": goals(timings),
    }


def goals(timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Return the goals, and whether they are met."""

    def ratio(one: str, other: str) -> float:
        return timings[other].median / timings[one].median

    return [
        at_least("ranges, times curl", ratio("ranges", "curl"), CURL_GOAL),
        at_least("download_luna16, times curl, MD5 and zipfile", ratio("whole", "curl_md5_unzip"), WHOLE_GOAL),
        at_least(
            "ranges, times curl, with a limit a connection", ratio("limited_ranges", "limited_curl"), LIMITED_GOAL
        ),
    ]


def make_archive(path: Path, num_bytes: int) -> PublishedFile:
    """Write an archive of two series whose voxels pack to about half, as those of LUNA16 do."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for series in ("1.2.3", "1.2.4"):
            archive.writestr(f"subset0/{series}.mhd", f"ElementDataFile = {series}.raw\n")
            voxels = rng.integers(-120, 120, num_bytes // 4, dtype=np.int16)
            archive.writestr(f"subset0/{series}.raw", voxels.tobytes())
    return PublishedFile(NAME, path.stat().st_size, _md5(path), 3723295)


@contextlib.contextmanager
def server(path: Path, limit: int | None = None) -> Iterator[str]:
    """Start a server of the file, and yield its address in the form of Zenodo's interface."""
    command = [sys.executable, "-m", "benchmarks.range_server", str(path), *([str(limit)] if limit else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/api"
        process.kill()


def _ways(base: str, folder: Path, published: PublishedFile, prefix: str) -> list[Way]:
    url, out = published.address(base), folder / "out"

    def way(name: str, work: Callable[[], None]) -> Way:
        return Way(prefix + name, work, reset=lambda: _emptied(out))

    return [
        way("curl", lambda: _curl(url, out / NAME)),
        way("httpx", lambda: _plain_httpx(url, out / NAME)),
        way("ranges", lambda: _ranges(url, out / "a.part", published)),
        way("curl_md5_unzip", lambda: _curl_md5_unzip(url, out, published)),
        way("whole", lambda: _whole(base, out, published)),
    ]


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _curl(url: str, path: Path) -> None:
    subprocess.run(["curl", "--silent", "--fail", "--noproxy", "*", "-o", str(path), url], check=True)


def _plain_httpx(url: str, path: Path) -> None:
    import httpx

    with httpx.Client(trust_env=False) as client, client.stream("GET", url) as response, path.open("wb") as file:
        for block in response.iter_raw():
            file.write(block)


def _ranges(url: str, path: Path, published: PublishedFile) -> None:
    import httpx

    with (
        httpx.Client(trust_env=False) as client,
        ChunkedFile(path, num_bytes=published.num_bytes, md5=published.md5, chunk_bytes=16 << 20) as file,
    ):
        RangeDownload(client, url, file, report=print).fetch()
        assert file.missing() == []


def _curl_md5_unzip(url: str, folder: Path, published: PublishedFile) -> None:
    _curl(url, folder / NAME)
    assert _md5(folder / NAME) == published.md5
    with zipfile.ZipFile(folder / NAME) as archive:
        archive.extractall(folder)


def _whole(base: str, folder: Path, published: PublishedFile) -> None:
    editions = {NAME: published}
    request = DownloadRequest(folder=folder, subsets=(0,), base=base, editions=editions, has_tables=False)
    summary = download_luna16(request, _Quiet())
    assert not summary.failures, summary.failures


class _Quiet:
    def report(self, line: str) -> None:
        """Print nothing."""

    def on_progress(self, progress: Progress) -> None:
        """Print nothing."""


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def text_of(results: dict[str, Any]) -> str:
    """Return rates, spread and goals as lines."""
    lines = [f"{results['num_bytes'] / 1e6:.0f} MB, {results['measured']}"]
    for name, rate in results["mb_per_second"].items():
        timing = results[name]
        spread = f"{timing['min_ms']:.0f} to {timing['max_ms']:.0f}"
        lines.append(f"{name:<18}{rate:>9.1f} MB/s{timing['median_ms']:>9.0f} ms ({spread})")
    for goal in results["goals"]:
        lines.append(f"{goal['goal']}: {goal['value']} ({goal['bound']}) {'met' if goal['is_met'] else 'missed'}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write ``download.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_download", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of download.json")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each way")
    parser.add_argument("--mib", type=int, default=256, help="MiB of unpacked files")
    options = parser.parse_args(arguments)
    facts = machine.facts(Path(tempfile.gettempdir()))
    results = {"machine": facts, **run(options.repeats, num_bytes=options.mib << 20)}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "download.json").write_text(json.dumps(results, indent=2) + "\n")
    print(text_of(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
