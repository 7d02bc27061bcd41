"""Metrics: counted by templates of routes, nothing from outside in a label."""

import logging

import pytest

from luna_pipeline.serving.security.metrics import Metrics
from luna_pipeline.serving.security.tokens import Tokens
from luna_pipeline_tests.serving.security.test_guard import application, ask

NAME = "DOE^JANE"


@pytest.fixture
def app(tmp_path):
    return application(Tokens(tmp_path / "tokens.json"), tmp_path)


def values_of(app):
    lines = [line for line in ask(app, "GET", "/metrics").text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_requests_are_counted_by_route_method_and_status(app):
    for _ in range(3):
        ask(app, "POST", f"/v1/echo/{NAME}")
    ask(app, "GET", f"/{NAME}/x")
    ask(app, NAME.replace("^", "-"), "/")
    ask(app, "GET", "/v1/broken")
    ask(app, "GET", "/", headers={"Host": NAME})
    found = values_of(app)
    assert found['luna_http_requests_total{method="POST",route="/v1/echo/{name}",status="200"}'] == 3
    assert found['luna_http_requests_total{method="GET",route="unmatched",status="404"}'] == 1
    assert found['luna_http_requests_total{method="other",route="/",status="405"}'] == 1
    assert found['luna_http_requests_total{method="GET",route="/v1/broken",status="500"}'] == 1
    assert found['luna_http_requests_total{method="GET",route="unmatched",status="421"}'] == 1
    assert found['luna_http_refused_total{reason="host"}'] == 1
    assert found['luna_http_request_seconds_count{route="/v1/echo/{name}"}'] == 3
    assert not any("DOE" in name for name in found)


def test_jobs_and_disk_are_looked_up_when_metrics_are_read(app):
    found = values_of(app)
    assert (found['luna_jobs{state="queued"}'], found["luna_jobs_database_up"]) == (2, 1)
    assert found["luna_service_disk_free_bytes"] > 0


def test_without_the_database_the_other_metrics_are_there(tmp_path, caplog):
    def count():
        raise ConnectionError(f"user {NAME}")

    text = Metrics(count, tmp_path).text().decode()
    assert "luna_jobs_database_up 0.0" in text
    assert "luna_service_disk_free_bytes" in text
    assert [record.getMessage() for record in caplog.records] == ["The jobs cannot be counted: ConnectionError."]


def test_a_request_is_one_line_of_the_log_without_its_path(app, caplog):
    with caplog.at_level(logging.INFO, "luna_pipeline"):
        ask(app, "POST", f"/v1/echo/{NAME}?name={NAME}")
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("luna_pipeline")]
    assert line.startswith("POST /v1/echo/{name} 200 ")
    assert line.endswith(" ms")
