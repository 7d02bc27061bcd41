"""Execute the chapters and write them as notebooks and web pages, with their pictures.

    python notebooks/build.py --out .luna/notebooks        # all chapters
    python notebooks/build.py --out .luna/notebooks 3 5    # some of them

All chapters run in one kernel, which is emptied before each, because loading torch and Ray takes seconds. The data set
and the trained models are in the folder ``phantom`` below the output, so that a later chapter finds them.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager

SOURCES = Path(__file__).resolve().parent
SECONDS_OF_A_CELL = 600
# Names of the chapter before must not be there: each chapter must run alone.
RESET = "%reset -f"


def chapters(numbers: Sequence[int] = ()) -> list[Path]:
    """Return the sources of all chapters, or of some by their numbers, in order.

    Raises:
        ValueError: If there is no chapter of a number.
    """
    by_number = {int(path.name.partition("_")[0]): path for path in sorted(SOURCES.glob("[0-9]*_*.py"))}
    if missing := set(numbers) - set(by_number):
        msg = f"A chapter must be one of {sorted(by_number)}, got {sorted(missing)}. Leave it out."
        raise ValueError(msg)
    return [path for number, path in sorted(by_number.items()) if not numbers or number in numbers]


def build(out: Path, sources: Sequence[Path]) -> dict[str, float]:
    """Execute chapters and write ``<chapter>.ipynb`` and ``<chapter>.html`` for each.

    Args:
        out: Folder of the outputs, and of the data in ``phantom``; created if it is missing.
        sources: The chapters, see ``chapters``.

    Returns:
        Seconds of each chapter, by its name.

    Raises:
        CellExecutionError: If a cell fails; the notebook up to it is written.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    with _kernel(out) as kernel:
        for source in sources:
            started = time.perf_counter()
            _run(kernel, source, out / f"{source.stem}.ipynb")
            seconds[source.stem] = time.perf_counter() - started
    return seconds


@contextmanager
def _kernel(folder: Path) -> Iterator["KernelManager"]:
    """Start a Python kernel in a folder; its own files and sockets are in a temporary folder."""
    from jupyter_client.manager import KernelManager

    with tempfile.TemporaryDirectory() as own:
        variables = {name: own for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")}
        path = os.pathsep.join([str(SOURCES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        # Sockets in the folder, which no other user of the machine can open, and no ports.
        kernel = KernelManager(kernel_name="python3", transport="ipc", connection_file=f"{own}/kernel.json")
        kernel.start_kernel(cwd=str(folder), env={**os.environ, **variables, "PYTHONPATH": path})
        try:
            yield kernel
        finally:
            kernel.shutdown_kernel(now=True)


def _run(kernel: "KernelManager", source: Path, target: Path) -> None:
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook: Any = jupytext.read(source)
    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    client = NotebookClient(notebook, km=kernel, timeout=SECONDS_OF_A_CELL, resources={"metadata": {}})
    try:
        with client.setup_kernel():
            client.kc.execute_interactive(RESET)
            client.execute()
    finally:
        client.kc.stop_channels()
        target.write_text(nbformat.writes(notebook), encoding="utf-8")
    target.with_suffix(".html").write_text(_page(notebook, target.stem), encoding="utf-8")


def _page(notebook: Any, title: str) -> str:
    """Return a notebook as one web page that loads nothing from elsewhere.

    Screen readers read the heading above a picture.
    """
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", mathjax_url="", require_js_url="", jquery_url="")
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    page = BeautifulSoup(body, features="html.parser")
    for picture in page.find_all("img"):
        heading: Any = picture.find_previous(["h1", "h2"])
        picture["alt"] = heading.get_text().rstrip("¶")
    return str(page)


def main() -> None:
    """Build the chapters that the command line names."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder of the outputs.")
    parser.add_argument("numbers", nargs="*", type=int, help="Chapters to build. Default: all.")
    options = parser.parse_args()
    try:
        sources = chapters(options.numbers)
    except ValueError as error:
        parser.error(str(error))
    for name, seconds in build(options.out, sources).items():
        sys.stdout.write(f"{options.out / name}.html ({seconds:.0f} s)\n")
    sys.stdout.write("The data are synthetic. Research use only; not a medical device.\n")


if __name__ == "__main__":
    main()
