"""Bearer tokens of the service: random secrets, of which only digests are kept in a file.

A secret has 256 random bits, so a plain SHA-256 cannot be reversed by guessing; slow hashes are for passwords.
"""

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.storage.files import is_name, write_bytes
from luna_pipeline.core.storage.limited_disks import locked

PREFIX = "luna_"
"""Start of each secret, by which scanners of repositories can find one that was committed."""

_SECRET_BYTES = 32
_ADVICE = "Remove the file and add the tokens again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it is kept.

    Attributes:
        name: Name of the system or place that uses it.
        created_at: Seconds since the epoch.
        sha256: Digest of its secret, 64 hexadecimal digits.
    """

    name: str
    created_at: float
    sha256: str


class Tokens:
    """The tokens in a file; changes of other processes take effect at the next call."""

    def __init__(self, path: Path) -> None:
        """Keep the path; the file is created with the first token."""
        self._path = path
        self._read: tuple[tuple[int, ...], tuple[Token, ...]] = ((), ())

    def add(self, name: str) -> str:
        """Create a token and return its secret, which cannot be read again.

        Raises:
            ValueError: If the name is no file name, or there is a token of this name.
        """
        if not is_name(name):
            msg = f"A token's name must be letters, digits, '.', '-' and '_', got others (of {len(name)} characters)."
            raise ValueError(f"{msg} Name the system that uses it.")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        with self._lock():
            tokens = self.list()
            if any(token.name == name for token in tokens):
                msg = f"A token's name must be new, got one that is there ({name})."
                raise ValueError(f"{msg} Revoke that one first, or take another name.")
            self._write([*tokens, Token(name=name, created_at=time.time(), sha256=_digest(secret))])
        return secret

    def revoke(self, name: str) -> None:
        """Remove a token; requests with its secret are refused from now on.

        Raises:
            ValueError: If there is no token of this name.
        """
        with self._lock():
            tokens = self.list()
            if all(token.name != name for token in tokens):
                msg = f"A token's name must be one of {len(tokens)} tokens, got another one."
                raise ValueError(f"{msg} See the names with `luna token list`.")
            self._write([token for token in tokens if token.name != name])

    def has_file(self) -> bool:
        """Return whether a token was ever added; the file stays when the last one is revoked.

        Raises:
            OSError: If that cannot be seen.
        """
        try:
            self._path.lstat()
        except FileNotFoundError:
            return False
        return True

    def list(self) -> tuple[Token, ...]:
        """Return the tokens in the order of their creation.

        Raises:
            ValueError: If the file is damaged.
            OSError: If it cannot be read.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return ()
        state = (status.st_mtime_ns, status.st_ino, status.st_size)
        if self._read[0] != state:
            self._read = (state, _tokens_in(self._path))
        return self._read[1]

    def name_of(self, secret: str) -> str | None:
        """Return the name of the token with a secret, None without one; the time does not depend on the secret.

        Raises:
            ValueError: If the file is damaged.
            OSError: If it cannot be read.
        """
        digest = _digest(secret)
        names = [token.name for token in self.list() if hmac.compare_digest(token.sha256, digest)]
        return names[0] if names else None

    def _lock(self) -> AbstractContextManager[None]:
        return locked(self._path.with_name(f".{self._path.name}.lock"), waits=True)

    def _write(self, tokens: Sequence[Token]) -> None:
        values = {"tokens": [asdict(token) for token in tokens]}
        write_bytes(self._path, (json.dumps(values, indent=1) + "\n").encode())
        os.chmod(self._path, 0o600)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _tokens_in(path: Path) -> tuple[Token, ...]:
    values = read_json_object(path, "The file of tokens", advice=_ADVICE)
    try:
        tokens = tuple(Token(**token) for token in values["tokens"])
        if not all(isinstance(token.sha256, str) and len(token.sha256) == 64 for token in tokens):
            raise ValueError("a digest of another length")
    except (KeyError, TypeError, ValueError) as error:
        msg = f"The file of tokens must hold names and digests, got {type(error).__name__} ({path})."
        raise ValueError(f"{msg} {_ADVICE}") from error
    return tokens
