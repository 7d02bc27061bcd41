"""The guard in front of an application: host, origin, token, headers, and errors without texts."""

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI, Request

from luna_pipeline.serving.security.access import access_of, is_loopback
from luna_pipeline.serving.security.guard import HEADERS
from luna_pipeline.serving.security.protect import protect
from luna_pipeline.serving.security.tokens import Tokens

NAME = "DOE^JANE"


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "tokens.json")


def application(tokens, tmp_path, *, host="127.0.0.1", **options):
    app = FastAPI()

    @app.get("/")
    @app.get("/health")
    def page():
        return {}

    @app.post("/v1/echo/{name}")
    async def echo(name: str, request: Request):
        return {"bytes": len(await request.body())}

    @app.get("/v1/broken")
    def broken():
        raise ValueError(NAME)

    protect(app, access_of(tokens, host=host, **options), count_jobs=lambda: {"queued": 2}, folder=tmp_path)
    return app


def ask(app, method, path, **options):
    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **options)

    return asyncio.run(main())


def test_on_this_machine_no_token_is_needed_until_one_was_added(tokens, tmp_path):
    app = application(tokens, tmp_path)
    assert ask(app, "POST", "/v1/echo/a").status_code == 200
    secret = tokens.add("pacs")
    refused = ask(app, "POST", "/v1/echo/a")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="luna"')
    assert refused.json() == {
        "detail": "A request must have the token of this service, got none. Send `Authorization: Bearer TOKEN`."
    }
    assert ask(app, "POST", "/v1/echo/a", headers={"Authorization": f"bearer {secret}"}).status_code == 200
    # Without the last token the service stays closed; an operator opens it by removing the file.
    tokens.revoke("pacs")
    for headers in ({}, {"Authorization": f"Bearer {secret}"}):
        assert ask(app, "POST", "/v1/echo/a", headers=headers).status_code == 401
    (tmp_path / "tokens.json").unlink()
    assert ask(app, "POST", "/v1/echo/a").status_code == 200


@pytest.mark.parametrize(
    "options", [{"host": "0.0.0.0"}, {"host": "10.1.2.3"}, {"host": "::"}, {"allowed_hosts": ["nodules.example"]}]
)
def test_beyond_this_machine_nothing_starts_or_stays_open_without_a_token(tokens, tmp_path, options):
    with pytest.raises(ValueError, match="luna token add"):
        application(tokens, tmp_path, **options)
    secret = tokens.add("pacs")
    app = application(tokens, tmp_path, **options)
    tokens.revoke("pacs")
    assert ask(app, "POST", "/v1/echo/a", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer luna_" + "a" * 43},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic bHVuYTpsdW5h"},
        {"Authorization": "Bearer \xe9"},
        [("Authorization", "Bearer SECRET"), ("Authorization", "Bearer SECRET")],
    ],
)
def test_a_wrong_or_doubled_token_is_refused_before_the_body_is_read(tokens, tmp_path, headers):
    secret = tokens.add("pacs")
    app = application(tokens, tmp_path)
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    raw = [(name.encode(), value.replace("SECRET", secret).encode("latin-1")) for name, value in pairs]
    was_read = False

    async def body():
        nonlocal was_read
        was_read = True
        yield b"x"

    assert ask(app, "POST", "/v1/echo/a", headers=raw, content=body()).status_code == 401
    assert not was_read


def test_page_and_state_need_no_token_everything_else_does(tokens, tmp_path):
    tokens.add("pacs")
    app = application(tokens, tmp_path, host="0.0.0.0")
    assert [ask(app, "GET", path).status_code for path in ("/", "/health")] == [200, 200]
    paths = ("/metrics", "/v1/broken", "/docs/x", "/openapi", "/no/such", "/page", "/healthz")
    assert {ask(app, "GET", path).status_code for path in paths} == {401}


def test_a_damaged_file_of_tokens_refuses_everything_but_the_page(tokens, tmp_path):
    tokens.add("pacs")
    app = application(tokens, tmp_path)
    (tmp_path / "tokens.json").write_text("{")
    answer = ask(app, "POST", "/v1/echo/a", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, ask(app, "GET", "/health").status_code) == (503, 200)
    assert "damaged file of tokens" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "[::2]"])
def test_another_site_cannot_reach_this_machine_by_a_name_of_its_own(tokens, tmp_path, host):
    answer = ask(application(tokens, tmp_path), "GET", "/", headers={"Host": host})
    assert answer.status_code == 421
    assert "evil" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1:80", "localhost:8000", "LOCALHOST", "[::1]:8000", "[::1]"])
def test_all_names_of_this_machine_are_right(tokens, tmp_path, host):
    assert ask(application(tokens, tmp_path), "GET", "/", headers={"Host": host}).status_code == 200


def test_two_host_headers_are_refused(tokens, tmp_path):
    headers = [("Host", "127.0.0.1:8000"), ("Host", "127.0.0.1:8000")]
    assert ask(application(tokens, tmp_path), "GET", "/", headers=headers).status_code == 400


def test_behind_a_proxy_its_name_and_origin_are_right_and_others_are_not(tokens, tmp_path):
    headers = {"Authorization": f"Bearer {tokens.add('page')}"}
    app = application(tokens, tmp_path, allowed_hosts=["nodules.example"])
    for host, origin, status in (
        ("nodules.example", "https://nodules.example", 200),
        # A proxy that does not pass the name on.
        ("127.0.0.1:8000", "https://nodules.example", 200),
        ("nodules.example", "https://evil.example", 403),
        ("evil.example", "https://nodules.example", 421),
    ):
        answer = ask(app, "POST", "/v1/echo/a", headers=headers | {"Host": host, "Origin": origin})
        assert answer.status_code == status, (host, origin)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:9000", "127.0.0.1:8000"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_a_page_of_another_site_cannot_send_anything(tokens, tmp_path, origin, method):
    answer = ask(application(tokens, tmp_path), method, "/v1/echo/a", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_the_own_page_can_send(tokens, tmp_path):
    headers = {"Origin": "http://127.0.0.1:8000"}
    assert ask(application(tokens, tmp_path), "POST", "/v1/echo/a", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/broken", "/no/such", "/metrics"])
def test_each_answer_has_the_headers_that_protect_a_browser(tokens, tmp_path, path):
    found = ask(application(tokens, tmp_path), "GET", path).headers
    assert {name: found[name] for name in HEADERS} == HEADERS
    refused = ask(application(tokens, tmp_path), "GET", path, headers={"Host": "x"}).headers
    assert {name: refused[name] for name in HEADERS} == HEADERS


def test_an_unexpected_error_is_answered_and_logged_without_its_text(tokens, tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        answer = ask(application(tokens, tmp_path), "GET", "/v1/broken")
    assert answer.status_code == 500
    assert NAME not in answer.text
    assert [record.message for record in caplog.records] == ["A request ended with an unexpected error."]


def test_addresses_of_this_machine():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example", "127.0.0.1.example", ""]))
