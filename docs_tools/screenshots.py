"""Take the screenshots of the documentation: ``make screenshots``, from nothing.

Runs the steps of docs/start/tour.md on a demo of its own in ``.luna/screenshots``, and takes pictures of Dagster,
MLflow and TensorBoard on the way. The folder is emptied first: all pictures show one demo, with one version of each
fold. Most of the time is the demo and the training of a second fold. Needs Chromium and Playwright.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from PIL import Image

from docs_tools import draw_chain, draw_ct
from docs_tools.draw_report import small_of
from luna_pipeline_tests.browsers import QUIET, opened_browser
from luna_pipeline_tests.processes import REPOSITORY, free_port, started, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURES = REPOSITORY / "docs/pictures"
ROOT = REPOSITORY / ".luna/screenshots"
# Of the browser's window; a picture has 1.3 times as many, so that its text is large enough on the page.
SIZE_PX, WIDE_PX, SCALE = (1000, 620), (1250, 700), 1.3
# Of the graph's window: all of the graph is in it, with the boxes just too small for their details.
GRAPH_PX, GRAPH_MARGIN_PX = (2560, 1700), 12
MAX_BYTES = 150_000
# Assets of the pictures of the graph: the way from a CT to a champion.
CHAIN = (
    *("ct_series", "candidates", "folds", "cutouts", "cutout_index", "nodule_classifier"),
    *("nodule_predictions", "nodule_froc", "leaderboard", "champion"),
)
# Each picture shows some stages, so that their names can be read on a page.
GRAPHS = {
    "dagster_graph": ("stage_1_ct", "stage_2_candidates", "stage_3_cutouts"),
    "dagster_graph_models": ("stage_4_training", "stage_5_evaluation"),
}
# Machine paths in a page, such as those of checkpoints, are shown relative to the repository.
WITHOUT_PATHS = """folder => {
  const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) nodes.currentNode.data = nodes.currentNode.data.replaceAll(folder + "/", "");
}"""
SECOND_FOLD = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", "folds": [1]}}}}


class Studio:
    """A demo, the browser's page that shows it, and the pictures that are taken of it."""

    def __init__(self, root: Path, page: "Page") -> None:
        self.root = root
        self.page = page
        self.log = root / "screenshots.log"
        folders = {"LUNA_DATA_DIR": "data", "LUNA_HOME": "home", "LUNA_CACHE": "cache", "DAGSTER_HOME": "dagster"}
        self.environment = {name: str(root / folder) for name, folder in folders.items()}
        self.environment |= {"MLFLOW_TRACKING_URI": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
        for folder in self.environment.values():
            Path(folder or root).mkdir(parents=True, exist_ok=True)
        (root / "dagster/dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())

    @property
    def home(self) -> Path:
        """Return the demo's home."""
        return self.root / "home"

    def launch(self, job: str, config: dict[str, Any] | None = None, *, may_fail: bool = False) -> None:
        """Run a job to its end.

        Raises:
            CalledProcessError: If it fails; the log is in ``screenshots.log``.
        """
        print(f"Running {job} ...", flush=True)
        command = ["dg", "launch", "--job", job, *(["--config-json", json.dumps(config)] if config else [])]
        search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self.log.open("ab") as log:
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **self.environment, "PATH": search},
                stdout=log,
                stderr=log,
                check=not may_fail,
            )
        if may_fail and not done.returncode:
            raise AssertionError(f"{job} must fail on a broken CT, got success ({self.log}). Look at the CT.")

    @contextmanager
    def server(self, *command: str, path: str = "/") -> Iterator[str]:
        """Start a server, with ``{port}`` in its command, and yield its address once ``path`` answers."""
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        words = [word.format(port=port) for word in command]
        with started(words, environment=self.environment, log=self.log) as process:
            wait_for(lambda: _answers(address + path), limit_seconds=300, what=f"An answer of {words[0]}")
            yield address
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: process.poll() is not None, limit_seconds=300, what=f"The end of {words[0]}")

    def take(self, name: str, *, size_px: tuple[int, int] = SIZE_PX, clip: Any = None) -> None:
        """Write a picture of the page as it is now; movements have ended.

        Args:
            name: Name of the file, without its suffix.
            size_px: Width and height of the window.
            clip: Part of the window, as Playwright has it; all of it without one.

        Raises:
            ValueError: If the picture is too large for the documentation.
        """
        self.page.set_viewport_size({"width": size_px[0], "height": size_px[1]})
        self.page.wait_for_timeout(2000)
        self.page.evaluate(WITHOUT_PATHS, str(REPOSITORY))
        path = PICTURES / f"{name}.png"
        with Image.open(io.BytesIO(self.page.screenshot(animations="disabled", clip=clip))) as picture:
            small_of(picture.convert("RGB")).save(path, "PNG", optimize=True)
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"A picture must have at most {MAX_BYTES} bytes, got {size} ({path}). Make it smaller.")
        print(f"{path.relative_to(REPOSITORY)} ({size // 1000} kB)", flush=True)

    def open(self, address: str, text: str) -> None:
        """Open an address, and wait until the page shows a text."""
        self.page.goto(address)
        self.page.get_by_text(text).first.wait_for()


def main(root: Path) -> None:
    """Run the tour, and take all pictures."""
    from playwright.sync_api import sync_playwright

    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        opened_browser(playwright, "chromium", Path(folder)) as browser,
    ):
        page = browser.new_page(
            viewport={"width": SIZE_PX[0], "height": SIZE_PX[1]}, device_scale_factor=SCALE, color_scheme="light"
        )
        page.set_default_timeout(120_000)
        page.add_init_script(QUIET)
        studio = Studio(root, page)
        studio.launch("demo")
        draw_chain.main(studio.home)
        draw_ct.main(root / "data")
        _dagster_pages(studio)
        _mlflow_pages(studio)
        _tensorboard_page(studio)


def _dagster_pages(studio: Studio) -> None:
    command = ("dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", "{port}")
    with studio.server(*command, path="/server_info") as address:
        _graph(studio, address)
        _asset(studio, address)
        _launchpad(studio, address)
        broken = sorted((studio.root / "data/subset2").glob("*.raw"))[0]
        with _truncated(broken):
            studio.launch("recut_changed", may_fail=True)
            _failed_partition(studio, address, broken.stem)
        studio.launch("recut_changed")
        studio.launch("train_nodule_classifier", SECOND_FOLD)
        studio.launch("evaluate")
        studio.launch("promote")
        studio.open(f"{address}/assets/champion?view=events", "Metadata")
        studio.take("dagster_champion")


def _graph(studio: Studio, address: str) -> None:
    page = studio.page
    studio.open(f"{address}/asset-groups", "stage_1_ct")
    page.get_by_text("Hide navigation").click()
    page.locator(".CodeMirror").first.click()
    page.keyboard.insert_text(" or ".join(f'key:"{name}"' for name in CHAIN))
    page.keyboard.press("Enter")
    page.get_by_text("stage_6_diagnosis").first.wait_for(state="detached")
    page.mouse.click(SIZE_PX[0] // 2, SIZE_PX[1] - 60)
    page.keyboard.press("Alt+e")  # Expands all groups.
    page.get_by_text("leaderboard", exact=True).first.wait_for()
    page.set_viewport_size({"width": GRAPH_PX[0], "height": GRAPH_PX[1]})
    page.reload()  # Fits the graph into the window.
    page.get_by_text("leaderboard", exact=True).first.wait_for()
    page.wait_for_timeout(10_000)  # The colours of the boxes arrive later, and nothing else shows that they did.
    for name, stages in GRAPHS.items():
        studio.take(name, size_px=GRAPH_PX, clip=_around(page, stages))


def _around(page: "Page", stages: tuple[str, ...]) -> dict[str, float]:
    """Return the part of the window with the boxes of some stages of the graph, as Playwright has it."""
    boxes = [page.locator("foreignObject", has_text=stage).first.bounding_box() for stage in stages]
    found = [it for it in boxes if it is not None]
    left, top = (min(it[axis] for it in found) - GRAPH_MARGIN_PX for axis in ("x", "y"))
    right = max(it["x"] + it["width"] for it in found) + GRAPH_MARGIN_PX
    bottom = max(it["y"] + it["height"] for it in found) + GRAPH_MARGIN_PX
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def _asset(studio: Studio, address: str) -> None:
    studio.open(f"{address}/assets/cutouts?view=overview", "num_candidates")
    studio.take("dagster_asset")


def _launchpad(studio: Studio, address: str) -> None:
    studio.open(f"{address}/locations/luna_pipeline/jobs/train_nodule_classifier/playground", "Launch Run")
    studio.page.get_by_text("No errors").first.wait_for()
    studio.take("dagster_launchpad")


def _failed_partition(studio: Studio, address: str, series: str) -> None:
    studio.open(f"{address}/assets/cutouts?view=partitions&partition={series}", "Failed (1)")
    for status in ("Materialized", "Materializing", "Missing"):
        studio.page.get_by_text(f"{status} (").first.click()
    studio.take("dagster_failed")


def _mlflow_pages(studio: Studio) -> None:
    store, files = f"sqlite:///{studio.home}/mlflow.db", str(studio.home / "mlartifacts")
    command = ("mlflow", "server", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1")
    with studio.server(
        *command, "--backend-store-uri", store, "--artifacts-destination", files, path="/health"
    ) as address:
        experiment, runs = _finished_runs(address)
        studio.open(
            f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART",
            "Model metrics",
        )
        studio.take("mlflow_runs", size_px=WIDE_PX)
        chosen, experiments = json.dumps(runs[:2]), json.dumps([experiment])
        studio.open(
            f"{address}/#/compare-runs?runs={chosen}&experiments={experiments}&workflowType=machine_learning",
            "Comparing 2 Runs",
        )
        for part in ("Visualizations", "Run details"):  # Folded. Once scrolled, names and values are not in one line.
            studio.page.get_by_role("button", name=part, exact=True).click()
        studio.take("mlflow_compare")


def _finished_runs(address: str) -> tuple[str, list[str]]:
    """Return the id of the experiment with the trainings, and those of its finished runs, the newest first."""
    api = f"{address}/api/2.0/mlflow"
    named = requests.get(f"{api}/experiments/get-by-name", params={"experiment_name": "luna_pipeline"}, timeout=60)
    experiment = named.json()["experiment"]["experiment_id"]
    body = {"experiment_ids": [experiment], "filter": "status = 'FINISHED'", "order_by": ["start_time DESC"]}
    found = requests.post(f"{api}/runs/search", json=body, timeout=60).json()["runs"]
    return experiment, [run["info"]["run_id"] for run in found]


def _tensorboard_page(studio: Studio) -> None:
    logs = (studio.home / "tensorboard/nodule_classifier").relative_to(REPOSITORY)
    command = ("tensorboard", "--host", "127.0.0.1", "--port", "{port}", "--logdir", str(logs))
    with studio.server(*command) as address:
        studio.open(f"{address}/#scalars", "epoch/loss")
        studio.take("tensorboard")


@contextmanager
def _truncated(path: Path) -> Iterator[None]:
    content = path.read_bytes()
    path.write_bytes(content[:100_000])
    try:
        yield
    finally:
        path.write_bytes(content)


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    main(ROOT)
