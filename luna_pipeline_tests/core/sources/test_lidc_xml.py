"""The readers' XML files: what is read, what is noted, and what is refused with its line."""

import pytest

from luna_pipeline.core.sources.lidc_xml import PointMark, read_lidc_xml

RATED = """<characteristics><subtlety>5</subtlety><internalStructure>1</internalStructure>
<calcification>6</calcification><sphericity>3</sphericity><margin>4</margin><lobulation>2</lobulation>
<spiculation>1</spiculation><texture>5</texture><malignancy>4</malignancy></characteristics>"""
ALL_RATINGS = {
    "subtlety": 5,
    "internal_structure": 1,
    "calcification": 6,
    "sphericity": 3,
    "margin": 4,
    "lobulation": 2,
    "spiculation": 1,
    "texture": 5,
    "malignancy": 4,
}


def roi(points, *, z="-100.5 ", inclusion="TRUE"):
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    head = f"<imageZposition>{z}</imageZposition><imageSOP_UID>1.2.{len(points)}</imageSOP_UID>"
    return f"<roi>{head}<inclusion>{inclusion}</inclusion>{edges}</roi>"


def nodule(*rois, characteristics=RATED):
    body = "".join(rois)
    return f"<unblindedReadNodule><noduleID>7</noduleID>{characteristics}{body}</unblindedReadNodule>"


def non_nodule(point, z="-90"):
    x, y = point
    locus = f"<locus><xCoord>{x}</xCoord><yCoord>{y}</yCoord></locus>"
    return f"<nonNodule><nonNoduleID>N1</nonNoduleID><imageZposition>{z}</imageZposition>{locus}</nonNodule>"


def session(*items):
    return f"<readingSession><annotationVersion>3</annotationVersion>{''.join(items)}</readingSession>"


def message(*sessions, namespace="http://www.nih.gov", root="LidcReadMessage", head=""):
    header = "<ResponseHeader>\n<SeriesInstanceUid> 1.2.3 </SeriesInstanceUid></ResponseHeader>\n"
    xmlns = f' xmlns="{namespace}"' if namespace else ""
    return f'<?xml version="1.0"?>{head}<{root}{xmlns}>\n{header}{"".join(sessions)}</{root}>'


def read(tmp_path, text):
    path = tmp_path / "069.xml"
    path.write_text(text)
    return read_lidc_xml(path)


SQUARE = [(4, 7), (8, 7), (8, 11), (4, 11)]
TRIANGLE = [(10, 20), (14, 20), (14, 26)]


@pytest.mark.parametrize("namespace", ["http://www.nih.gov", "http://www.nih.gov/idri", ""])
def test_a_nodule_has_outlines_and_ratings_in_any_namespace(tmp_path, namespace):
    found = nodule(roi(TRIANGLE), roi([(12, 22)], z="-103", inclusion="false"), roi(TRIANGLE, z="-103"))
    reading = read(tmp_path, message(session(), session(found), namespace=namespace))
    assert (reading.series_instance_uid, reading.num_readers, reading.points) == ("1.2.3", 2, ())
    (mark,) = reading.nodules
    assert (mark.series_instance_uid, mark.reader, mark.ratings) == ("1.2.3", 1, ALL_RATINGS)
    placed = [(contour.z_mm, contour.is_inclusion, contour.sop_instance_uid) for contour in mark.contours]
    assert placed == [(-103.0, True, "1.2.3"), (-103.0, False, "1.2.1"), (-100.5, True, "1.2.3")]
    assert mark.contours[0].points_cr.tolist() == [[10, 20], [14, 20], [14, 26]]


def test_marks_of_a_reader_and_of_two_have_numbers_of_their_own(tmp_path):
    found = nodule(roi(TRIANGLE))
    reading = read(tmp_path, message(session(found, found), session(found)))
    assert [mark.mark_id for mark in reading.nodules] == ["0-0", "0-1", "1-0"]


def test_small_nodules_and_non_nodules_are_points(tmp_path):
    small = nodule(roi([(5, 6)]), characteristics="")
    empty = nodule(roi([(7, 8)]), characteristics="<characteristics/>")
    reading = read(tmp_path, message(session(small, non_nodule((3, 4))), session(empty)))
    assert reading.nodules == ()
    assert reading.points == (
        PointMark("small nodule", 0, -100.5, (5, 6)),
        PointMark("non-nodule", 0, -90.0, (3, 4)),
        PointMark("small nodule", 1, -100.5, (7, 8)),
    )
    assert reading.notes == ()


@pytest.mark.parametrize("value", ["0", "6", "-1", "x", "", "4.5", "99999999999999999999", "00000000599", "²"])
def test_a_rating_out_of_range_is_null_and_noted(tmp_path, value):
    rated = RATED.replace("<texture>5<", f"<texture>{value}<")
    reading = read(tmp_path, message(session(nodule(roi(TRIANGLE), characteristics=rated))))
    expected = {name: rating for name, rating in ALL_RATINGS.items() if name != "texture"}
    assert reading.nodules[0].ratings == expected
    assert reading.notes == ("nodules without a valid rating of texture: 1",)


@pytest.mark.parametrize(
    ("tag", "name", "highest"), [("internalStructure", "internal_structure", 4), ("calcification", "calcification", 6)]
)
def test_ratings_of_another_range_have_it(tmp_path, tag, name, highest):
    old = f"<{tag}>{ALL_RATINGS[name]}<"
    for value, expected in ((highest, highest), (highest + 1, None)):
        rated = RATED.replace(old, f"<{tag}>{value}<")
        reading = read(tmp_path, message(session(nodule(roi(TRIANGLE), characteristics=rated))))
        assert reading.nodules[0].ratings.get(name) == expected


@pytest.mark.parametrize("characteristics", ["", "<characteristics/>"])
def test_an_outline_without_ratings_is_a_small_nodule_at_its_middle(tmp_path, characteristics):
    rois = roi(TRIANGLE, z="3"), roi([(1, 1)], z="5"), roi(SQUARE, z="4")
    reading = read(tmp_path, message(session(nodule(*rois, characteristics=characteristics))))
    assert reading.nodules == ()
    assert reading.points == (PointMark("small nodule", 0, 4.0, (6, 9)),)
    assert reading.notes == ("outlines without ratings, read as nodules below 3 mm: 1",)


def test_a_nodule_without_an_outline_is_left_out_with_a_note(tmp_path):
    reading = read(tmp_path, message(session(nodule(roi([])), nodule())))
    assert (reading.nodules, reading.points) == ((), ())
    assert reading.notes == ("nodules without an outline, left out: 2",)


@pytest.mark.parametrize("root", ["IdriReadMessage", "manifest"])
def test_readings_of_x_rays_and_other_files_are_skipped(tmp_path, root):
    assert read(tmp_path, message(root=root)) is None


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd">'


@pytest.mark.parametrize("head", [BOMB, OUTSIDE, "<!DOCTYPE LidcReadMessage>"])
def test_a_document_type_is_refused_before_it_is_read(tmp_path, head):
    with pytest.raises(ValueError, match=r"must have no document type, got one \(069.xml, line 1\)"):
        read(tmp_path, message(session(), head=head))


@pytest.mark.parametrize("encoding", ["foo", "gb2312", "Shift_JIS", "idna", "zlib"])
def test_an_encoding_that_expat_does_not_know_is_refused(tmp_path, encoding):
    text = message(session()).replace('"1.0"', f'"1.0" encoding="{encoding}"')
    with pytest.raises(ValueError, match=rf"in UTF-8, got the encoding '{encoding}' \(069.xml, line 1\)"):
        read(tmp_path, text)


@pytest.mark.parametrize("encoding", ["UTF-8", "utf-16", "ISO-8859-1", "us-ascii"])
def test_encodings_of_expat_are_read(tmp_path, encoding):
    path = tmp_path / "069.xml"
    path.write_bytes(message(session()).replace('"1.0"', f'"1.0" encoding="{encoding}"').encode(encoding))
    assert read_lidc_xml(path).series_instance_uid == "1.2.3"


REFUSED = {
    "cut off": (message(session())[:-20], r"well formed, got .* \(069.xml, line 4, column \d+\)"),
    "empty": ("", r"well formed, got no element found \(069.xml, line 1"),
    "an unknown entity": (message("&boom;"), r"well formed, got undefined entity \(069.xml, line 4"),
    "no header": ("<LidcReadMessage/>", r"must have a ResponseHeader, got none \(069.xml, line 1\)"),
    "no series": (message(session()).replace("1.2.3", ""), r"SeriesInstanceUid must not be empty.*line 3"),
    "no session": (message(), r"must have a readingSession, got none"),
    "no z": (message("\n", session(nodule(roi(TRIANGLE, z="")))), r"imageZposition must not be empty.*line 7"),
    "z is no number": (message(session(nodule(roi(TRIANGLE, z="1,5")))), r"must be a number, got '1,5' .*line 6"),
    "z is nan": (message(session(nodule(roi(TRIANGLE, z="nan")))), r"must be a number, got 'nan'"),
    "z with a dash": (message(session(nodule(roi(TRIANGLE, z="1_0")))), r"must be a number, got '1_0'"),
    "half a pixel": (
        message(session(nodule(roi([(1.5, 2)])))),
        r"xCoord must be a whole number of pixels below 4096, got 1.5",
    ),
    "a far pixel": (message(session(nodule(roi([(4095, 4096)])))), r"yCoord must be .* below 4096, got 4096 .*line 6"),
    "a negative pixel": (message(session(nodule(roi([(-1, 2)])))), r"xCoord must be .* below 4096, got -1 .*line 6"),
    "inclusion": (message(session(nodule(roi(TRIANGLE, inclusion="1")))), r"TRUE or FALSE, got '1' .*line 6"),
    "no locus": (message(session("<nonNodule/>")), r"nonNodule must have a locus"),
    "deep": ("<a>" * 40 + "</a>" * 40, r"at most 32 deep"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_a_file_that_cannot_be_read_is_refused_with_file_and_line(tmp_path, what):
    text, reason = REFUSED[what]
    with pytest.raises(ValueError, match=reason):
        read(tmp_path, text)


def test_a_file_above_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("luna_pipeline.core.sources.plain_xml.MAX_BYTES", 200)
    with pytest.raises(ValueError, match="must have at most 0 MiB"):
        read(tmp_path, message(session()))


def test_too_many_elements_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("luna_pipeline.core.sources.plain_xml.MAX_ELEMENTS", 20)
    with pytest.raises(ValueError, match="must have at most 20 elements"):
        read(tmp_path, message(session(nodule(roi(TRIANGLE)))))
