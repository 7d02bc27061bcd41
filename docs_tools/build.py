"""Build the documentation as a site: ``python -m docs_tools.build``, or ``make docs``.

The pages of ``docs/`` are copied to ``.luna/documentation/docs``, together with pages made from the code
(``generated.PAGES``). There a link to a file of the repository leads to a copy of this file. Zensical builds
``.luna/documentation/site`` of them; a warning, a broken link or a missing anchor fails the build. The site can be read
without a server and searched without a network.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs_tools import search
from docs_tools.generated import FILES, PAGES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BUILD = ROOT / ".luna/documentation"
# Files of the repository that are pages of the site, by their page.
PAGES_OF_FILES = {
    "changelog.md": "CHANGELOG.md",
    "how_to/deploy.md": "deploy/README.md",
    "notebooks.md": "notebooks/README.md",
}
PICTURE = re.compile(r"^(!\[.*\]\((.+)\))$", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#:\s]+)(?=[)#])")
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def assemble(folder: Path) -> None:
    """Write all pages and pictures of the site to a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder)
    sources = {str(path.relative_to(DOCS)): f"docs/{path.relative_to(DOCS)}" for path in DOCS.rglob("*.md")}
    for page, source in {**sources, **PAGES_OF_FILES}.items():
        _write(folder / page, _with_links(page, source, (ROOT / source).read_text(), folder))
    for page, text_of in {**PAGES, **FILES}.items():
        _write(folder / page, text_of())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _with_links(page: str, source: str, text: str, folder: Path) -> str:
    """Return the text of a page whose links lead to pages and files of the site; a picture opens in full size."""

    def site_link(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), match["path"]))
        return os.path.relpath(_site_path(target, folder), os.path.dirname(page) or ".")

    parts = FENCE.split(text)
    for number in range(0, len(parts), 2):
        parts[number] = LINK.sub(site_link, PICTURE.sub(r"[\1](\2)", parts[number]))
    return "".join(parts)


def _site_path(target: str, folder: Path) -> str:
    """Return the place in the site of a file of the repository; files that are no pages are copied there."""
    by_file = {"README.md": "index.md", **{file: page for page, file in PAGES_OF_FILES.items()}}
    if target in by_file:
        return by_file[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    place = f"files/{target}"
    if (ROOT / target).is_file():
        _write(folder / place, (ROOT / target).read_text())
    return place


def build(folder: Path = BUILD) -> Path:
    """Build the site and return its folder, ``site`` in the given one.

    Raises:
        ValueError: After a warning of Zensical, for example of a broken link.
    """
    assemble(folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder / "mkdocs.yml")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(folder / "mkdocs.yml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).partition("Traceback")[0].strip()
        raise ValueError(f"The site must build without a warning, got\n{said}\n({folder}). Fix these pages.")
    search.complete(folder / "site")
    return folder / "site"


if __name__ == "__main__":
    try:
        print(f"Built {build()}/index.html")
    except ValueError as error:
        sys.exit(str(error))
