"""The picture in docs/development.md, drawn from the imports of the code."""

from xml.etree import ElementTree

from docs_tools import draw_architecture as drawer


def test_the_picture_is_the_code_of_today():
    assert drawer.PICTURE.read_text() == drawer.drawing(), "Run `make architecture`, and look at the picture."


def test_every_room_has_its_box_inside_the_picture_and_none_covers_another():
    root = ElementTree.fromstring(drawer.drawing())
    names = {text.text for text in root.findall(".//{*}text") if text.get("text-anchor")}
    assert {"definitions", "assets", "launchers", "runs", "ct", "training", "storage", "malloc"} <= names
    boxes = [
        tuple(float(box.get(key)) for key in ("x", "y", "width", "height"))
        for box in root.findall(".//{*}rect")
        if box.get("stroke")
    ]
    assert len(boxes) == len(names)
    assert all(0 < x < x + width < drawer.WIDTH for x, _, width, _ in boxes)
    for number, (x, y, width, _) in enumerate(boxes):
        assert all(y != b or x + width <= a or a + w <= x for a, b, w, _ in boxes[number + 1 :])


def test_implied_imports_have_no_arrow_and_rows_point_down():
    imports = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert drawer.without_implied(imports) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert drawer.rows_of(imports) == [["a"], ["b"], ["c", "d"]]
