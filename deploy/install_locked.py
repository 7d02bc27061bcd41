"""Installs the packages of requirements.lock into the environment of this Python: `python deploy/install_locked.py`.

uv downloads and unpacks on all cores, several times as fast as pip. It reads no configuration of pip, so its package
indexes, folders of wheels, constraints and certificates are passed on. Where uv fails, pip installs.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
# Setting of pip, variable of uv, what separates several values there.
PASSED_ON = (
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("constraint", "UV_CONSTRAINT", " "),
    ("cert", "SSL_CERT_FILE", " "),
    ("default-timeout", "UV_HTTP_TIMEOUT", " "),
)


def settings_for_uv(listed: str) -> dict[str, str]:
    """Environment variables of uv with the same meaning as pip's configuration.

    Args:
        listed: Output of ``pip config list``, lines such as ``global.index-url='https://host/simple'``. Later lines
            come first in pip: environment variables are listed before files.
    """
    found: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name.rpartition(".")[2], str(ast.literal_eval(value)))
    # As pip: the best version of all indexes, not that of the first index which knows the package.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for name, variable, separator in PASSED_ON:
        if name in found:
            variables[variable] = separator.join(found[name].split())
    return variables


def main() -> int:
    """Install with uv, or else with pip; return the exit code."""
    (uv,) = [line for line in LOCK.read_text().splitlines() if line.startswith("uv==")]
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    if subprocess.run([*PIP, "install", "--quiet", uv], check=False).returncode == 0:
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "-r", str(LOCK)]
        # What the user has set for uv comes first.
        if subprocess.run(command, env={**settings_for_uv(listed), **os.environ}, check=False).returncode == 0:
            return 0
        print("uv did not install the packages (above), pip tries it ...", file=sys.stderr)
    return subprocess.run([*PIP, "install", "--quiet", "--no-compile", "-r", str(LOCK)], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
