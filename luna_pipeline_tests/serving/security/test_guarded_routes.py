"""The guard in front of the whole application: no route is left out."""

import contextlib
import re

import pytest
from fastapi.testclient import TestClient

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.http.app import create_app
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline.serving.security.access import access_of
from luna_pipeline.serving.security.guard import HEADERS, PUBLIC
from luna_pipeline.serving.security.tokens import Tokens
from luna_pipeline.settings import Settings

ID = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A client of an application that other machines can reach, its secret, and its routes."""
    root = tmp_path_factory.mktemp("guarded")
    folders, config = ServiceFolders(root / "service"), ServiceConfig()
    secret = Tokens(folders.tokens).add("page")
    settings = Settings.from_environment({"LUNA_HOME": str(root / "home")})
    with contextlib.closing(Jobs(folders, config)) as jobs:
        app = create_app(settings, config, folders, jobs, access=access_of(Tokens(folders.tokens), host="0.0.0.0"))
        description = app.openapi()["paths"]
        routes = [(method.upper(), path) for path, methods in description.items() for method in methods]
        with TestClient(app, base_url="http://nodules.example", raise_server_exceptions=False) as client:
            yield client, secret, routes


def test_each_described_route_but_the_state_needs_a_token(service):
    client, secret, routes = service
    assert len(routes) >= 12
    answers = {
        (method, path): client.request(method, re.sub(r"\{\w+\}", ID, path)).status_code for method, path in routes
    }
    assert {path for (_, path), status in answers.items() if status != 401} == {"/health", "/ready"}
    headers = {"Authorization": f"Bearer {secret}"}
    for method, path in routes:
        assert client.request(method, re.sub(r"\{\w+\}", ID, path), headers=headers).status_code != 401


def test_without_a_token_the_page_is_there_and_holds_nothing_of_a_diagnosis(service):
    client, _, _ = service
    for path in PUBLIC:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert ID not in answer.text
    assert client.get("/page/main.js").status_code == 200
    # A path that only begins like that of the page.
    assert client.get("/page/..%2Fv1/diagnoses").status_code == 404
    assert client.get("/v1/diagnoses").status_code == 401


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script_of_a_result(service):
    client, _, _ = service
    for path in ("/", "/docs"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe-eval" not in policy
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", answer.text)
    assert {name: client.get("/").headers[name] for name in HEADERS if name not in ("cache-control",)} == {
        name: value for name, value in HEADERS.items() if name != "cache-control"
    }
