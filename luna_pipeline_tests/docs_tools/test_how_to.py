"""Programs, queries and configurations of the how-to pages are accepted as they stand there."""

import json
import re
import shlex
from pathlib import Path

import dagster as dg
import graphql
import pandas as pd
import pytest

from docs_tools.build import DOCS
from luna_pipeline.definitions import defs
from luna_pipeline_tests.prepared import INGEST

# A line that ends in a backslash goes on in the next.
PAGES = {path.name: path.read_text().replace("\\\n", " ") for path in (DOCS / "how_to").glob("*.md")}


def test_the_asset_of_the_page_is_made_from_the_candidates(luna_after, monkeypatch: pytest.MonkeyPatch):
    luna = luna_after(INGEST)
    monkeypatch.setenv("LUNA_HOME", str(luna.home))
    names: dict = {"__name__": "my_assets"}
    (program,) = re.findall(r"```python\n# my_assets.py\n(.*?)```", PAGES["own_asset.md"], re.DOTALL)
    assert program.count("\n") <= 22
    exec(compile(program, "my_assets.py", "exec"), names)
    assert dg.materialize([names["large_nodules"]]).success
    candidates = pd.read_parquet(luna.home / "tables/candidates.parquet")
    made = pd.read_parquet(luna.home / "tables/large_nodules.parquet")
    assert len(made) == ((candidates["class"] == 1) & (candidates["diameter_mm"] >= 6)).sum() > 0
    assert names["defs"].resolve_asset_graph().get(dg.AssetKey("large_nodules")).parent_keys == {
        dg.AssetKey("candidates")
    }


def test_the_queries_of_the_page_on_back_fills_fit_dagsters_schema():
    from dagster_graphql.schema import create_schema

    queries = re.findall(r"```graphql\n(.*?)```", PAGES["backfill.md"], re.DOTALL)
    assert len(queries) == 2
    for query in queries:
        assert not graphql.validate(create_schema().graphql_schema, graphql.parse(query))


def test_jobs_assets_and_configurations_of_the_commands_exist():
    assets = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    lines = [line for page in PAGES.values() for line in re.findall(r"^dg launch .*", page, re.MULTILINE)]
    assert len(lines) >= 15
    for line in lines:
        words = shlex.split(line, comments=True)
        given = dict(zip(words[2::2], words[3::2], strict=True))
        assert given.get("--assets", "candidates") in assets, line
        if "--job" in given:
            job = defs.resolve_job_def(given["--job"])
            if "--config-json" in given:
                assert dg.validate_run_config(job, json.loads(given["--config-json"]))
            elif "-c" in given and Path(given["-c"]).parent.name == "config":
                assert (DOCS.parent / given["-c"]).is_file()
