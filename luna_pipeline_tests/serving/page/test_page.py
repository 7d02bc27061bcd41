"""The page in Debian's Chromium and Firefox, on `luna serve`: upload, slices, findings, results, tokens."""

import base64
import contextlib
import functools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.serving.security.tokens import Tokens
from luna_pipeline_tests.browsers import opened_browser
from luna_pipeline_tests.diagnosis_models import save_models
from luna_pipeline_tests.processes import free_port, started, wait_for
from luna_pipeline_tests.serving.http.apps import zip_of
from luna_pipeline_tests.serving.services import Service
from luna_pipeline_tests.serving.viewed_cts import UPRIGHT, write_viewed_ct

pytestmark = pytest.mark.slow

PLANES = ("Axial", "Coronal", "Sagittal")
DROP = """([target, name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name));
    const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.querySelector(target).dispatchEvent(event);
}"""
DROP_UNREADABLE = """() => {
    const readEntries = (_, reject) => reject(new DOMException("", "NotFoundError"));
    const entry = { name: "ct", isDirectory: true, createReader: () => ({ readEntries }) };
    const event = new DragEvent("drop", { bubbles: true, cancelable: true });
    const items = [{ kind: "file", webkitGetAsEntry: () => entry }];
    Object.defineProperty(event, "dataTransfer", { value: { items, files: [] } });
    document.body.dispatchEvent(event);
}"""
PIXEL = """([plane, x, y]) => {
    const canvas = document.querySelector(`figure.${plane} canvas`);
    return canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.width, 1, 1).data[0];
}"""


@dataclass(frozen=True)
class Site:
    """A service with a worker, and its address; ``upright`` is a CT on it, shape (I, R, C), direction the identity."""

    service: Service
    address: str
    path: Path
    hounsfield: np.ndarray


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    service = Service(tmp_path_factory.mktemp("page"))
    # Three findings of the CT are above it and two below.
    save_models(service.root / "home", decision=Decision.at(0.25))
    path, hounsfield = write_viewed_ct(service.root / "ct", UPRIGHT)
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = ["luna", "serve", "--config", str(service.config_path), "--port", str(port)]
    with started(command, environment=service.environment, log=service.root / "serve.log"):
        wait_for(lambda: _is_ready(address), limit_seconds=120, what="start of the service", every_seconds=0.2)
        yield Site(service, address, path, hounsfield)


def _is_ready(address: str) -> bool:
    try:
        return requests.get(f"{address}/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


@dataclass(frozen=True)
class Browser:
    """A running browser; ``folder`` gets the downloads of Firefox."""

    name: str
    driver: object
    folder: Path


@pytest.fixture(scope="module")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Browser]]:
    """A function that returns a browser, which is started once."""
    from playwright.sync_api import sync_playwright

    with contextlib.ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())

        @functools.cache
        def launched(name: str) -> Browser:
            folder = tmp_path_factory.mktemp(name)
            return Browser(name, stack.enter_context(opened_browser(playwright, name, folder)), folder)

        yield launched


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def browser(browsers, request: pytest.FixtureRequest) -> Browser:
    return browsers(request.param)


@pytest.fixture(scope="module")
def chromium(browsers) -> Browser:
    return browsers("chromium")


@contextlib.contextmanager
def _visited(site: Site, browser: Browser, fragment: str = ""):
    """A page on the site; at its end nothing came from elsewhere, and no script has failed."""
    page = browser.driver.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    hosts, complaints = set(), []
    page.on("request", lambda it: hosts.add(urlsplit(it.url).netloc))
    page.on("console", lambda it: complaints.append(it.text) if it.type == "error" else None)
    page.on("pageerror", lambda it: complaints.append(str(it)))
    page.goto(f"{site.address}/{fragment}")
    yield page
    page.close()
    # A blob is made by the page itself, for downloads; data: is the empty icon.
    assert hosts - {""} == {urlsplit(site.address).netloc}
    # Chromium reports answers with an error; the page shows them.
    assert [it for it in complaints if not re.search(r"status of 4\d\d", it)] == []


@pytest.fixture
def page(site: Site, browser: Browser):
    with _visited(site, browser) as page:
        yield page


@pytest.fixture(scope="module")
def seen(site: Site, browser: Browser):
    """A page with the diagnosis of the CT, and its id; tests leave it in any state."""
    with _visited(site, browser) as page:
        page.set_input_files("#files", site.path)
        yield page, _job_id(page)


def _drop(page, path: Path, *, name: str | None = None) -> None:
    page.evaluate(DROP, ["#drop", name or path.name, base64.b64encode(path.read_bytes()).decode()])


def _slices(page) -> dict[str, int]:
    """Number of the slice of each plane, from 0."""
    return {name: int(_canvas(page, name).get_attribute("aria-valuenow")) - 1 for name in PLANES}


def _canvas(page, name: str):
    return page.get_by_role("slider", name=f"{name} slice")


def _wait_for_slices(page, expected: dict[str, int]) -> None:
    """Wait until the planes show slices, and until they are drawn."""
    for name, number in expected.items():
        page.wait_for_selector(f'figure.{name.lower()} canvas[data-drawn="{number}"]')
    assert _slices(page) == expected


def _nodules(site: Site, job_id: str) -> list[dict]:
    return json.loads((site.service.folders.job(job_id) / "output/nodules.json").read_text())


def _planes_of(nodule: dict) -> dict[str, int]:
    return dict(zip(PLANES, nodule["center_irc"], strict=True))


def _job_id(page) -> str:
    page.get_by_text("The diagnosis is done").wait_for(timeout=120_000)
    page.wait_for_selector("#result:visible")
    return urlsplit(page.url).fragment


def test_a_dropped_ct_is_uploaded_diagnosed_and_seen(site: Site, page):
    _drop(page, site.path)
    job_id = _job_id(page)
    assert page.locator("#job-text").inner_text() == "The diagnosis is done: 3 findings at or above the threshold."
    nodules = _nodules(site, job_id)
    rows = [row.inner_text().split() for row in page.locator("#findings tbody tr").all()]
    assert [row[:2] for row in rows] == [[str(at), f"{nodules[at - 1]['probability']:.3f}"] for at in (1, 2, 3)]
    _wait_for_slices(page, _planes_of(nodules[0]))
    for name in PLANES:
        assert re.search(r", findings? (\d+, )*1\b", _canvas(page, name).get_attribute("aria-valuetext"))

    page.get_by_label("Also show 2 findings below the threshold").check()
    assert page.locator("#findings tbody tr").count() == 5
    page.get_by_role("button", name="Show finding 4").click()
    _wait_for_slices(page, _planes_of(nodules[3]))
    assert (
        page.locator("#findings-text")
        .inner_text()
        .startswith(f"Finding 4: probability {nodules[3]['probability']:.3f}")
    )
    assert page.get_by_role("link", name=f"Show diagnosis {job_id[:8]}").is_visible()


def _even_voxel(hounsfield: np.ndarray, index: int, low: int, high: int) -> tuple[int, int]:
    """Row and column of an axial slice whose surroundings are the most even ones between two HU."""
    windows = np.lib.stride_tricks.sliding_window_view(hounsfield[index].astype(float), (5, 5))
    spread = windows.std(axis=(2, 3))
    means = windows.mean(axis=(2, 3))
    spread[(means < low) | (means > high)] = np.inf
    row, col = np.unravel_index(np.argmin(spread), spread.shape)
    return int(row) + 2, int(col) + 2


def test_pixels_are_hu_in_the_chosen_window(site: Site, seen):
    page, _ = seen
    page.get_by_label("Outlines").uncheck()
    index = _slices(page)["Axial"]
    for preset, (level, width), tissue in (("Lung", (-600, 1500), (-900, -500)), ("Mediastinum", (40, 400), (0, 80))):
        row, col = _even_voxel(site.hounsfield, index, *tissue)
        page.get_by_label(preset).check()
        page.mouse.move(0, 0)
        # Rows and columns have equal mm, and 72 of each fill the square.
        shown = page.evaluate(PIXEL, ["axial", (col + 0.5) / 72, (row + 0.5) / 72])
        expected = (site.hounsfield[index, row, col] - (level - width / 2)) / width * 255
        noise = np.ptp(site.hounsfield[index, row - 1 : row + 2, col - 1 : col + 2]) / width * 255
        assert shown == pytest.approx(expected, abs=noise + 2)
        assert 20 < expected < 235


def test_slices_are_turned_by_wheel_keys_and_clicks(seen):
    page, _ = seen
    before = _slices(page)
    _canvas(page, "Axial").hover()
    page.mouse.wheel(0, 120)
    _wait_for_slices(page, before | {"Axial": before["Axial"] - 1})
    page.mouse.wheel(0, -120)
    _wait_for_slices(page, before)
    _canvas(page, "Coronal").focus()
    for key, number in (("ArrowUp", before["Coronal"] + 1), ("ArrowDown", before["Coronal"]), ("Home", 0), ("End", 71)):
        page.keyboard.press(key)
        _wait_for_slices(page, before | {"Coronal": number})
    page.keyboard.press("PageDown")
    _wait_for_slices(page, before | {"Coronal": 61})
    # The middle of pixel (row 50, column 20) of 72 × 72 in the axial plane.
    side = _canvas(page, "Axial").bounding_box()["width"]
    _canvas(page, "Axial").click(position={"x": 20.5 / 72 * side, "y": 50.5 / 72 * side})
    _wait_for_slices(page, {"Axial": before["Axial"], "Coronal": 50, "Sagittal": 20})
    # The last slice towards the head is at the top: 48 slices of 2 mm over 72 rows of 0.548219 mm.
    side = _canvas(page, "Coronal").bounding_box()["width"]
    height_mm, slice_mm = 96.0, 2.0
    _canvas(page, "Coronal").click(position={"x": side / 2, "y": (height_mm - 10.5 * slice_mm) / height_mm * side})
    _wait_for_slices(page, {"Axial": 10, "Coronal": 50, "Sagittal": 36})


def test_each_result_is_downloaded(site: Site, browser: Browser, seen):
    page, job_id = seen
    results = {
        "Report (HTML)": "report.html",
        "Findings (CSV)": "nodules.csv",
        "Findings (JSON)": "nodules.json",
        "Overview (PNG)": "montage.png",
        "Lungs (PNG)": "lungs.png",
    }
    assert [it.inner_text() for it in page.locator("#downloads button").all()] == list(results)
    for button, name in results.items():
        stored = site.service.folders.job(job_id) / "output" / name
        downloaded = _downloaded(browser, page, button, f"{job_id}-{name}")
        assert downloaded == stored.read_bytes()


def _downloaded(browser: Browser, page, button: str, name: str) -> bytes:
    if browser.name == "chromium":
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        return Path(download.value.path()).read_bytes()
    # Firefox reports no download of what a page has made, but carries it out.
    page.get_by_role("button", name=button).click()
    path = browser.folder / name
    wait_for(lambda: path.is_file() and path.stat().st_size, limit_seconds=60, what=f"the download of {name}")
    wait_for(lambda: not list(browser.folder.glob("*.part")), limit_seconds=60, what="the end of the download")
    return path.read_bytes()


def test_the_page_is_used_by_the_keyboard_alone(site: Site, page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    _tab_to(page, "#choose-files")
    page.set_input_files("#files", site.path)
    job_id = _job_id(page)
    nodules = _nodules(site, job_id)
    _tab_to(page, "figure.axial canvas")
    page.keyboard.press("n")
    _wait_for_slices(page, _planes_of(nodules[1]))
    page.keyboard.press("2")
    assert page.get_by_label("Mediastinum").is_checked()
    page.keyboard.press("+")
    assert page.locator("#zoom").input_value() == "2"
    page.keyboard.press("o")
    assert not page.get_by_label("Outlines").is_checked()
    _tab_to(page, '#findings tr[data-number="3"] button')
    page.keyboard.press("Enter")
    _wait_for_slices(page, _planes_of(nodules[2]))
    _tab_to(page, "#delete")
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "delete"


def _tab_to(page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


@pytest.mark.real
def test_a_real_dicom_zip_or_its_folder_is_uploaded_seen_and_deleted(
    site: Site, chromium: Browser, real_data: Path, tmp_path: Path
):
    folder = tmp_path / "Doe^Jane"
    folder.mkdir()
    for number, path in enumerate(sorted((real_data / "fixtures/cip-ct64").rglob("*.dcm"))):
        (folder / f"Doe^Jane {number}").write_bytes(path.read_bytes())
    slices = [(f"Doe^Jane/{path.name}", path.read_bytes()) for path in sorted(folder.iterdir())]
    assert len(slices) == 79
    (tmp_path / "Doe^Jane.zip").write_bytes(zip_of(*slices))
    # Media with CTs hold these too; they are no damaged slices.
    for name in (".DS_Store", "AUTORUN.INF", "README.txt"):
        (folder / name).write_bytes(b"no CT")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    with _visited(site, chromium) as page:
        _drop(page, tmp_path / "Doe^Jane.zip")
        job_id = _job_id(page)
        assert _canvas(page, "Axial").get_attribute("aria-valuemax") == "79"
        buttons = [it.inner_text() for it in page.locator("#downloads button").all()]
        assert "Structured report (DICOM SR)" in buttons
        # The classifier with random weights finds nothing.
        assert "This does not mean that there is no nodule." in page.locator("#findings-text").inner_text()
        assert "Doe" not in page.content()
    with _visited(site, chromium) as page:
        page.set_input_files("#folder", folder)
        # The same files are the same diagnosis.
        assert _job_id(page) == job_id
        page.get_by_role("button", name="Delete the CT and its results").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.locator("#job").wait_for(state="hidden")
        page.get_by_role("link", name=f"Show diagnosis {job_id[:8]}").wait_for(state="detached")
    assert not site.service.folders.job(job_id).exists()
    # Names of the user's files are not sent.
    assert not any("Doe" in path.name for path in site.service.folders.root.rglob("*"))


def test_files_that_are_no_ct_are_refused_with_the_services_sentence(site: Site, chromium: Browser):
    with _visited(site, chromium) as page:
        page.evaluate(DROP, ["#drop", "notes.zip", base64.b64encode(b"no zip").decode()])
        problem = page.locator("#upload-problem")
        problem.wait_for()
        assert problem.get_attribute("role") == "alert"
        assert ", got " in problem.inner_text()
        assert problem.inner_text().endswith(".")
        assert page.locator("#job").is_hidden()
        page.evaluate(DROP_UNREADABLE)
        page.get_by_text("The files must be readable, got NotFoundError. Choose them again.").wait_for()


def test_one_error_ends_nothing_that_the_page_follows(site: Site, chromium: Browser):
    refused = set()

    def refuse_once(route) -> None:
        if (path := urlsplit(route.request.url).path) in refused:
            return route.fallback()
        refused.add(path)
        return route.fulfill(status=429, json={"detail": f"Refused once, got {path}. Try again."})

    with _visited(site, chromium) as page:
        page.set_input_files("#files", site.path)
        job_id = _job_id(page)
        shown = _slices(page)["Axial"]
        page.clock.install()
        page.route(re.compile(rf"diagnoses(/{job_id}(/view|/slices/axial/(10|{shown + 1}))?)?$"), refuse_once)
        page.reload()
        for text, place in (("#kept-text", ""), ("#job-problem", f"/{job_id}"), ("#job-problem", f"/{job_id}/view")):
            page.locator(text, has_text=f"diagnoses{place}.").wait_for()
            page.clock.run_for(5_000)
        page.wait_for_selector(f'figure.axial canvas[data-drawn="{shown}"]')
        assert _job_id(page) == job_id
        # A neighbour that cannot be loaded is no problem, and is loaded when it is needed.
        wait_for(lambda: len(refused) == 4, limit_seconds=20, what="the request for the neighbour")
        _canvas(page, "Axial").focus()
        page.keyboard.press("ArrowUp")
        page.wait_for_selector(f'figure.axial canvas[data-drawn="{shown + 1}"]')
        assert page.locator("#job-problem").is_hidden()
        page.clock.run_for(10_000)
        page.get_by_role("link", name=f"Show diagnosis {job_id[:8]}").wait_for()


def test_a_diagnosis_that_is_opened_again_is_followed_once(site: Site, chromium: Browser):
    asked = []

    def still_runs(route) -> None:
        asked.append(time.monotonic())
        route.fulfill(json=job | {"state": "running"})

    with _visited(site, chromium) as page:
        page.set_input_files("#files", site.path)
        job = requests.get(f"{site.address}/v1/diagnoses/{_job_id(page)}", timeout=10).json()
        page.route(re.compile(f"diagnoses/{job['id']}$"), still_runs)
        for _ in range(2):
            with page.expect_response(lambda it: it.request.method == "POST"):
                page.set_input_files("#files", site.path)
            page.locator("#uploading").wait_for(state="hidden")
        asked.clear()
        wait_for(lambda: page.title() and len(asked) >= 4, limit_seconds=30, what="the fourth request")
        page.unroute_all(behavior="ignoreErrors")
        # One a second.
        assert asked[3] - asked[0] > 2.5


def test_an_upload_that_is_cancelled_before_it_starts_is_not_sent(site: Site, chromium: Browser):
    held, sent = [], []

    def hold(route) -> None:
        held.append(route)

    with _visited(site, chromium) as page:
        page.get_by_text("None yet.").or_(page.locator("#kept tbody")).wait_for()
        page.route(re.compile("diagnoses$"), hold)
        page.on("request", lambda it: sent.append(it.method))
        page.set_input_files("#files", site.path)
        wait_for(lambda: page.locator("#uploading").is_visible() and held, limit_seconds=10, what="the first request")
        page.get_by_role("button", name="Cancel").click()
        page.locator("#uploading").wait_for(state="hidden", timeout=10_000)
        assert page.locator("#upload-problem").is_hidden()
        assert "POST" not in sent


def test_a_token_is_asked_for_once_and_kept(site: Site, browser: Browser):
    with _visited(site, browser) as page:
        page.set_input_files("#files", site.path)
        job_id = _job_id(page)
    tokens = Tokens(site.service.folders.tokens)
    secret = tokens.add("page")
    try:
        with _visited(site, browser, f"#{job_id}") as page:
            dialog = page.get_by_role("dialog", name="Access token")
            dialog.get_by_label("Token").fill("another")
            dialog.get_by_role("button", name="Continue").click()
            page.get_by_text("The service does not know this token").wait_for()
            dialog.get_by_label("Token").fill(secret)
            page.keyboard.press("Enter")
            _job_id(page)
            assert _downloaded(browser, page, "Findings (CSV)", f"{job_id}-nodules.csv").startswith(b"seriesuid,")
            page.reload()
            _job_id(page)
            assert dialog.is_hidden()
            assert secret not in page.content()
    finally:
        tokens.revoke("page")
        # Without it, the service stays closed.
        site.service.folders.tokens.unlink()


def test_an_accessibility_checker_finds_no_fault(site: Site, browser: Browser):
    from axe_playwright_python.sync_playwright import Axe

    reports = {}

    def check(state: str, *schemes: str) -> None:
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            results = Axe().run(page)
            assert results.response["passes"]
            if results.violations_count:
                reports[state, scheme] = results.generate_report()

    with _visited(site, browser) as page:
        check("start", "light")
        page.set_input_files("#files", site.path)
        _job_id(page)
        page.get_by_label("Also show").check()
        page.get_by_text("Keys", exact=True).click()
        check("result", "light", "dark")
        page.locator("#delete").click()
        check("dialog", "dark")
    assert reports == {}
