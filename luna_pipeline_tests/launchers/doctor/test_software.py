"""Python, packages, compiled helpers and GPU: what is wrong is found, with the command that fixes it."""

import sys

import pytest
import torch
from packaging.requirements import Requirement

from luna_pipeline.launchers.doctor import software


def test_requirements_are_those_of_the_project():
    needed = software.requirements()
    assert needed.python == ">=3.11"
    assert "torch" in {it.name for it in needed.packages}
    assert set(software.EXTRAS) | {"dev"} == set(needed.extras)


def test_another_python_is_a_problem():
    assert [it.state for it in software.python(">=3.11")] == ["ok"]
    (found,) = software.python(">=99")
    assert found.state == "problem"
    assert "make setup" in found.fix


def test_missing_and_outdated_packages_are_problems_with_their_command():
    *problems, summary = software.packages(list(map(Requirement, ["numpy>=99", "no_such_package>=1", "torch>=2"])))
    assert [(it.name, it.state) for it in problems] == [("numpy", "problem"), ("no_such_package", "problem")]
    assert problems[0].fix == "pip install 'numpy>=99'"
    assert problems[1].value.startswith("missing")
    assert summary.value.startswith("1 of 3 in their ranges: torch ")


def test_packages_that_differ_from_the_lock_are_a_note(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# A comment\nnumpy==0.1\nno-such-package==1\n")
    (found,) = software.lock(lock)
    assert found.state == "note"
    assert "numpy" in found.value
    assert "no-such-package" not in found.value
    assert found.fix == "pip install -r requirements.lock"
    lock.write_text("")
    assert [it.state for it in software.lock(lock)] == ["ok"]


def test_a_missing_extra_is_a_note_and_a_problem_where_the_settings_need_it():
    needed = {"s3": [Requirement("no_such_package")], "dashboard": [Requirement("ray[no_such_extra]")]}
    found = {it.name: it for it in software.extras(needed, {})}
    assert found["Extra s3"].state == "note"
    assert found["Extra s3"].fix == "pip install -e '.[s3]'"
    assert found["Extra dashboard"].state == "ok"
    required = {it.name: it for it in software.extras(needed, {"s3": "LUNA_HOME in S3"})}
    assert required["Extra s3"].state == "problem"


def test_packages_of_an_extra_of_a_package_count():
    unmet = software._unmet([Requirement("ray[default]>=2")])
    parts = {it.name for it in software._of_its_extras(Requirement("ray[default]>=2"))}
    assert "aiohttp-cors" in {name.replace("_", "-") for name in parts}
    assert {it.name for it in unmet} <= parts


def test_helpers_that_were_not_built_are_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "luna_pipeline.core.cutouts._gather", None)
    (found,) = software.compiled_helpers()
    assert found.state == "note"
    assert found.value.startswith("not built: _gather; cutting")


@pytest.mark.parametrize(
    ("driver", "cuda", "state", "fix"),
    [
        (None, None, "note", ""),
        ("535.1", None, "problem", "pip install --force-reinstall --no-deps torch=="),
        ("535.1", "13.0", "problem", "Update the driver"),
    ],
)
def test_why_torch_uses_no_gpu(monkeypatch, driver, cuda, state, fix):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(software, "nvidia_driver", lambda: driver)
    (found,) = software.gpu()
    assert found.state == state
    assert found.fix.startswith(fix)


def test_usable_gpus_are_named(monkeypatch):
    class Device:
        name, total_memory = "Some GPU", 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Device)
    (found,) = software.gpu()
    assert (found.name, found.state) == ("GPU 0", "ok")
    assert found.value.startswith("Some GPU, 80 GiB")
