import subprocess
import sys

import pytest

from luna_pipeline.core import malloc

# Frees an array of 128 MB (mapped by itself by default) and tells what the process then holds.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from luna_pipeline.core.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
np.ones(2**24)
print(Path("/proc/self/statm").read_text().split()[1])
"""


def resident_pages(word):
    done = subprocess.run([sys.executable, "-c", SCRIPT, word], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


@pytest.mark.skipif(malloc.platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_stays_with_the_process_when_it_is_kept():
    freed, kept = resident_pages("freed"), resident_pages("kept")
    assert kept - freed > 0.9 * 2**27 / 4096


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(malloc.platform, "libc_ver", lambda: ("", ""))
    assert malloc.keep_freed_memory() is False
