"""Lists of names: complete, each with a sentence, without importing what the names stand for."""

import subprocess
import sys
from importlib import import_module

import pytest

from luna_pipeline.cli.listing import _PARTS
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.overview.registries import REGISTRIES, description_of, rows_of


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_name_has_a_sentence(kind: str):
    module, _, attribute = REGISTRIES[kind].partition(":")
    rows = rows_of(kind)
    assert [row["name"] for row in rows] == list(getattr(import_module(module), attribute).names())
    # Other tests of this process may have registered parts of their own.
    own = [row for row in rows if row["origin"] == "project"]
    assert own
    for row in own:
        assert len(row["description"]) > 10, row
        assert not row["description"][0].islower()
        assert not row["description"].startswith(("Return", "Build"))


def test_the_command_offers_every_registry():
    assert set(_PARTS) == set(REGISTRIES)


def test_parts_of_an_extension_have_their_own_sentence_and_origin():
    registry: Registry = Registry("part", {"own": "luna_pipeline.core.training.recipes:demo"})

    @registry.register("mine")
    def mine() -> None:
        """Return what I made.

        More.
        """

    assert description_of(registry, "mine") == "What I made."
    assert description_of(registry, "own").startswith("The nodule baseline for a few hundred cutouts")


def test_networks_are_listed_without_torch():
    code = (
        "import sys\n"
        "from luna_pipeline.overview.registries import rows_of\n"
        "rows_of('networks'), rows_of('recipes'), rows_of('optimizers')\n"
        "print([m for m in ('torch', 'monai', 'dagster', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
