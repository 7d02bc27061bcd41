"""Logs: nothing of a patient by any way into the log, but enough to find the place of a fault."""

import os
import subprocess
import sys

import pytest

from luna_pipeline.serving.quiet_logs import describe_exception

NAME = "DOE^JANE"
SET_UP = "import logging, os, sys, threading, warnings\nfrom luna_pipeline.serving.quiet_logs import set_up_logs\n"
# Each way by which a text from outside can get into a log.
WAYS = {
    "foreign message": "logging.getLogger('pynetdicom').warning('Association of %s', NAME)",
    "foreign formatted message": "logging.getLogger('dbos').error(f'Failed: {NAME}')",
    "foreign handler": (
        "logging.getLogger('ray').addHandler(logging.StreamHandler())\n"
        "logging.getLogger('ray').error(f'Failed: {NAME}')"
    ),
    "warning": "warnings.warn(f'Invalid value for VR PN: {NAME}')",
    "root": "logging.error(NAME)",
    "own exception": (
        "try:\n    raise ValueError(NAME)\n"
        "except ValueError: logging.getLogger('luna_pipeline.x').exception('It failed.')"
    ),
    "cause": (
        "try:\n    try: open('/nowhere/' + NAME)\n    except OSError as error: raise KeyError(NAME) from error\n"
        "except KeyError: logging.getLogger('luna_pipeline.x').exception('It failed.')"
    ),
    "uncaught": "raise ValueError(NAME)",
    "thread": (
        "def fail(): raise ValueError(NAME)\nthread = threading.Thread(target=fail)\nthread.start(); thread.join()"
    ),
    "finalizer": "class Broken:\n    def __del__(self): raise ValueError(NAME)\nBroken(); import gc; gc.collect()",
    "task": (
        "import asyncio, gc\nasync def fail(): raise ValueError(NAME)\n"
        "async def main():\n    task = asyncio.ensure_future(fail()); await asyncio.sleep(0.01)\n"
        "    del task; gc.collect()\n"
        "asyncio.run(main())"
    ),
}


def logged(code, **environment):
    text = f"{SET_UP}NAME = os.environ['NAME']\nset_up_logs()\n{code}\n"
    own = {**os.environ, "NAME": NAME, "LUNA_DEBUG": "", "PYTHONWARNINGS": "default"} | environment
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=own, check=False).stderr


@pytest.fixture(scope="module")
def by_one_process():
    """What each way but the uncaught exception logs, in one process: Python's start takes a quarter of a second."""
    parts = [f"sys.stderr.write('\\n@ {way}\\n')\n{code}" for way, code in WAYS.items() if way != "uncaught"]
    texts = logged("\n".join(parts)).split("\n@ ")[1:]
    return dict(text.split("\n", 1) for text in texts) | {"uncaught": logged(WAYS["uncaught"])}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_into_the_log_carries_a_text_from_outside(by_one_process, way):
    shown = by_one_process[way]
    assert NAME not in shown
    assert "DOE" not in shown
    # Something is logged, and says where.
    assert "message at " in shown or 'File "' in shown, shown


def test_with_debug_the_texts_are_there():
    assert NAME in logged(WAYS["foreign message"], LUNA_DEBUG="1")


def test_an_own_message_stays_one_line():
    shown = logged("logging.getLogger('luna_pipeline.serving').info('a\\nb\\x1b[31m %d', 7)")
    assert shown.endswith("Z INFO luna_pipeline.serving: a\\nb\\x1b[31m 7\n")
    assert len(shown.splitlines()) == 1


def test_an_exception_is_described_by_kinds_and_places():
    def fail():
        try:
            int(NAME)
        except ValueError as error:
            raise KeyError(NAME) from error

    with pytest.raises(KeyError) as caught:
        fail()
    lines = describe_exception(caught.value).splitlines()
    assert [line for line in lines if "File" not in line] == ["KeyError", "caused by:", "ValueError"]
    assert lines[1].endswith("in fail")
