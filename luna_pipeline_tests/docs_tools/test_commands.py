"""Every command line in the documentation is one that the programs accept: command, options, target, job, config."""

import contextlib
import importlib.util
import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import dagster as dg
import pytest
import yaml

from docs_tools.build import DOCS, PAGES_OF_FILES, ROOT
from luna_pipeline.cli import cli
from luna_pipeline.definitions import defs

PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", *(ROOT / file for file in PAGES_OF_FILES.values())])
# A line of shell is several commands; `if`, `(` and the like do not occur in the documentation.
SEPARATORS = {"&&", "||", ";", "|", "&"}
MAKEFILE = (ROOT / "Makefile").read_text()


def lines_of(text: str) -> Iterator[str]:
    """Yield the lines of a page's ``sh`` blocks; continued ones and those within quotation marks are one."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        whole = ""
        for line in block.replace("\\\n", " ").splitlines():
            whole += f"{line}\n"
            with contextlib.suppress(ValueError):  # No closing quotation mark yet.
                shlex.split(whole, comments=True)
                yield whole
                whole = ""


def commands_of(text: str) -> Iterator[list[str]]:
    """Yield the commands of a page's ``sh`` blocks as words, without variables set in front of them."""
    for line in lines_of(text):
        words = shlex.split(line, comments=True)
        while words:
            end = next((place for place, word in enumerate(words) if word in SEPARATORS), len(words))
            command, words = words[:end], words[end + 1 :]
            redirected = next((place for place, word in enumerate(command) if re.match(r"\d?[<>]$", word)), None)
            command = command[:redirected]
            while command and re.match(r"[A-Z_]+=", command[0]):
                command = command[1:]
            if command:
                yield command


def problem_of_luna(words: list[str]) -> str:
    """Return what click says of a command line, without running it; empty if it is valid."""
    found: click.Command = cli
    context = click.Context(cli, info_name="luna")
    try:
        while isinstance(found, click.Group):
            name, found, words = found.resolve_command(context, words)  # type: ignore[assignment]
            context = found.make_context(name, words, parent=context)
            words = [*context._protected_args, *context.args]
    except click.exceptions.Exit:  # --help, --version
        return ""
    except click.UsageError as error:
        return error.format_message()
    return ""


def problem_of_launch(words: list[str]) -> str:
    """Return what is wrong with a command line of ``dg launch``: job, assets or configuration."""
    given = dict(itertools.pairwise(words))
    known = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    if missing := set(given.get("--assets", "").split(",")) - known - {""}:
        return f"no assets {missing}"
    if "--job" not in given:
        return "" if "--assets" in given else "neither --job nor --assets"
    name = given["--job"]
    if name not in {job.name for job in defs.resolve_all_job_defs()}:
        return f"no job {name}"
    config = {}
    if file := given.get("-c") or given.get("--config"):
        if not (ROOT / file).is_file():
            return f"no file {file}"
        config = yaml.safe_load((ROOT / file).read_text())
    if text := given.get("--config-json"):
        config = json.loads(text)
    try:
        dg.validate_run_config(defs.resolve_job_def(name), config)
    except dg.DagsterInvalidConfigError as error:
        return str(error)
    return ""


def problem_of(words: list[str]) -> str:
    """Return what is wrong with a command; empty if it is valid, or of a program that is not the project's."""
    if words[0] == "luna":
        return problem_of_luna(words[1:])
    if words[:2] == ["dg", "launch"]:
        return problem_of_launch(words[2:])
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        missing = [target for target in targets if not re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE)]
        unused = [word for word in words[1:] if "=" in word and word.split("=")[0] not in MAKEFILE]
        return f"the Makefile has no {missing + unused}" if missing or unused else ""
    if words[:2] == ["python", "-m"] and words[2].split(".")[0] in ("docs_tools", "benchmarks", "luna_pipeline"):
        return "" if importlib.util.find_spec(words[2]) else f"no module {words[2]}"
    return ""


@pytest.fixture(autouse=True)
def files_need_not_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_accepted(page: Path):
    problems = {shlex.join(words): problem_of(words) for words in commands_of(page.read_text())}
    assert {line: problem for line, problem in problems.items() if problem} == {}


def test_targets_can_be_made():
    commands = [words for page in PAGES for words in commands_of(page.read_text()) if words[0] == "make"]
    targets = sorted({word for words in commands for word in words[1:] if "=" not in word})
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(targets) > 10


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("luna predictt classification --out x.csv", "No such command 'predictt'"),
        ("luna predict classification --fold one --out x.csv", "'one' is not a valid integer"),
        ("luna predict classification", "Missing option '--out'"),
        ("LUNA_HOME=a luna verify_cutouts && luna prune --all", "No such option"),
        ("luna token added NAME", "No such command 'added'"),
        ("make demos", "demos"),
        ("make demo RUUT=.luna/x", "RUUT"),
        ("dg launch --job cutt", "no job cutt"),
        ("dg launch --job tune -c config/none.yaml", "no file config/none.yaml"),
        ("dg launch --assets ct_series,folders", "folders"),
        ("""dg launch --job train_nodule_classifier --config-json '{"ops": {"nodule": {}}}'""", "nodule"),
        ("python -m docs_tools.none", "no module docs_tools.none"),
    ],
)
def test_a_wrong_command_of_a_page_is_found(line: str, problem: str):
    found = [problem_of(words) for words in commands_of(f"```sh\n{line}  # a comment\n```\n")]
    assert [text for text in found if problem in text]
