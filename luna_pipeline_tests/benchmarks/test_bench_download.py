import json
import shutil
from functools import partial

import pytest

from benchmarks import bench_download


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is what the download is compared with")
def test_all_ways_download_the_archive_and_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(bench_download, "run", partial(bench_download.run, limit=4 << 20))
    assert bench_download.main(["--out", str(tmp_path), "--repeats", "1", "--mib", "1"]) == 0
    results = json.loads((tmp_path / "download.json").read_text())
    ways = {"curl", "httpx", "ranges", "curl_md5_unzip", "whole", "limited_curl", "limited_ranges"}
    assert set(results["mb_per_second"]) == ways
    assert results["num_bytes"] < 1 << 20
    assert "times curl" in capsys.readouterr().out
