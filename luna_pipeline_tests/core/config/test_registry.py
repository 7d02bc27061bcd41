import pytest

from luna_pipeline.core.config.registry import Registry

OWN = {"join": "os.path:join", "split": "os.path:split"}


def test_a_part_of_the_project_is_imported_when_it_is_asked_for():
    assert Registry("part", {"split": "os.path:split"}).get("split")("a/b") == ("a", "b")


def test_a_registered_part_is_found_by_its_name():
    parts = Registry("part", OWN)

    @parts.register("mine")
    def mine() -> int:
        return 7

    assert parts.get("mine") is mine
    assert parts.names() == ("join", "split", "mine")


@pytest.mark.parametrize("name", ["join", "mine"])
def test_a_taken_name_is_refused(name):
    parts = Registry("part", OWN)
    parts.register("mine")(print)
    with pytest.raises(ValueError, match=f"The part's name must be new, got '{name}', which is taken"):
        parts.register(name)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="The part must be one of join, split, got 'glue'"):
        Registry("part", OWN).get("glue")


def test_a_forgotten_name_is_free_again_and_the_projects_own_stay():
    parts = Registry("part", OWN)
    parts.register("mine")(print)
    for name in ("mine", "join"):
        parts.forget(name)
    assert parts.names() == ("join", "split")


def test_registered_parts_are_told_from_those_of_the_project():
    parts = Registry("part", {"own": "builtins:len"})
    parts.register("mine")(print)
    assert (parts.is_own("own"), parts.is_own("mine"), parts.is_own("other")) == (False, True, False)
    assert (parts.name_of(print), parts.name_of(len)) == ("mine", None)


@pytest.mark.parametrize("name", [print, None, ""])
def test_a_name_must_be_a_text_as_it_is_not_without_parentheses(name):
    parts = Registry("part")
    with pytest.raises(TypeError, match=r"part's name must be a text, got .* Write @\.\.\.\.register"):
        parts.register(name)
    assert parts.names() == ()
