"""The commands `luna token`: the secret alone on standard output, one line for each error."""

from pathlib import Path

from luna_pipeline.serving.security.tokens import Tokens
from luna_pipeline_tests.command_line import run_here


def token(home: Path, *arguments: str):
    return run_here("token", *arguments, cwd=home, environment={"LUNA_SERVICE_DIR": str(home / "service")})


def test_a_token_is_added_listed_and_revoked(tmp_path: Path):
    added = token(tmp_path, "add", "pacs")
    assert added.returncode == 0, added.stderr
    secret = added.stdout.removesuffix("\n")
    assert Tokens(tmp_path / "service/tokens.json").name_of(secret) == "pacs"
    assert "cannot be shown again" in added.stderr
    listed = token(tmp_path, "list")
    assert listed.stdout.startswith("pacs  20")
    assert secret not in listed.stdout
    assert token(tmp_path, "revoke", "pacs").stdout == "Token pacs was revoked.\n"
    assert token(tmp_path, "list").stdout == ""


def test_what_cannot_be_done_is_one_line_and_exit_code_1(tmp_path: Path):
    token(tmp_path, "add", "pacs")
    for arguments, part in ((("add", "pacs"), "must be new"), (("revoke", "page"), "luna token list")):
        done = token(tmp_path, *arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert part in done.stderr
