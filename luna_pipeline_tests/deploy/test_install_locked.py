"""What is passed on from pip's configuration to uv; that it installs is shown by every `make setup`."""

import importlib.util

from luna_pipeline_tests.processes import REPOSITORY


def test_indexes_wheels_and_certificates_of_pip_are_those_of_uv():
    place = REPOSITORY / "deploy/install_locked.py"
    spec = importlib.util.spec_from_file_location("install_locked", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    listed = """\
:env:.find-links='/wheels /more'
:env:.no-input='1'
global.find-links='/others'
global.index-url='https://mirror.example/simple?a=b'
global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'
"""
    assert module.settings_for_uv(listed) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple?a=b",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
    }
    assert module.settings_for_uv("") == {"UV_INDEX_STRATEGY": "unsafe-best-match"}
