"""Importing the package makes Python look for garbage rarely, and not at the end of the process."""

import subprocess
import sys

# What is registered first is called last.
PROGRAM = """
import atexit, gc
atexit.register(lambda: print(gc.get_threshold(), gc.get_freeze_count() > 0))
import luna_pipeline
"""


def test_garbage_is_looked_for_rarely_and_not_at_the_end():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "(10000, 10, 10) True\n"
