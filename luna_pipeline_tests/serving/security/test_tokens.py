"""Tokens: only digests on the disk, changes seen by running processes, a damaged file lets nothing through."""

import hashlib
import stat

import pytest

from luna_pipeline.serving.security.tokens import Tokens


def test_only_the_digest_of_a_secret_is_kept_and_readable_by_its_owner(tmp_path):
    path = tmp_path / "service/tokens.json"
    secret = Tokens(path).add("pacs")
    text = path.read_text()
    assert secret.removeprefix("luna_") not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert [stat.S_IMODE(it.stat().st_mode) for it in (path, path.parent)] == [0o600, 0o700]
    assert len(secret) == len("luna_") + 43  # 32 bytes in base64


def test_a_running_service_sees_added_and_revoked_tokens_at_once(tmp_path):
    service, operator = Tokens(tmp_path / "tokens.json"), Tokens(tmp_path / "tokens.json")
    assert service.name_of("") is None
    secrets = {name: operator.add(name) for name in ("pacs", "page")}
    assert [service.name_of(secret) for secret in secrets.values()] == ["pacs", "page"]
    operator.revoke("pacs")
    assert [service.name_of(secret) for secret in secrets.values()] == [None, "page"]
    assert [token.name for token in service.list()] == ["page"]


@pytest.mark.parametrize("secret", ["", "luna_", "é", "\udce9", "luna_" + "a" * 43])
def test_another_secret_is_of_no_token(tmp_path, secret):
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("pacs")
    assert tokens.name_of(secret) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"tokens": [1]}', '{"tokens": [{"name": "a"}]}'])
def test_a_damaged_file_is_an_error_and_not_an_empty_list(tmp_path, content):
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="file of tokens must"):
        Tokens(path).name_of("luna_x")


@pytest.mark.parametrize("name", ["", "a b", "../up", "DOE^JOHN", "a\nb"])
def test_a_name_that_is_no_file_name_is_refused_without_repeating_it(tmp_path, name):
    with pytest.raises(ValueError, match=r"name must be letters.*Name the system") as refusal:
        Tokens(tmp_path / "tokens.json").add(name)
    assert "DOE" not in str(refusal.value)


def test_a_name_is_given_once_and_only_a_known_one_is_revoked(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("pacs")
    with pytest.raises(ValueError, match="name must be new"):
        tokens.add("pacs")
    with pytest.raises(ValueError, match="luna token list"):
        tokens.revoke("page")
