"""The OpenAPI description and the application agree: schemathesis sends what it allows and what it does not."""

from collections.abc import Iterator

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.config import PositiveDataAcceptanceConfig

from luna_pipeline_tests.serving.http.apps import client_of, files_below
from luna_pipeline_tests.serving.services import Service

# Random bytes are no CT and no cutouts, and random ids none of a diagnosis.
REFUSED_CONTENTS = ["2xx", "400", "404", "413", "415", "422", "429"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("openapi"))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as client:
        yield client


@pytest.fixture(scope="module")
def api(client: TestClient):
    config = schemathesis.Config()
    acceptance = PositiveDataAcceptanceConfig(expected_statuses=REFUSED_CONTENTS)
    config.projects.default.checks.positive_data_acceptance = acceptance
    headers = {"Host": "localhost"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, config=config, headers=headers)
    assert len(list(schema.get_all_operations())) >= 12
    return schema


schema = schemathesis.pytest.from_fixture("api")


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case, service: Service):
    case.call_and_validate(base_url="http://localhost")
    assert files_below(service.folders.staging) == []


def test_the_page_of_the_description_names_every_route_and_loads_nothing_from_elsewhere(client: TestClient):
    answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for place in client.get("/openapi.json").json()["paths"]:
        assert f" {place}</code></h2>" in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "<script" not in answer.text
