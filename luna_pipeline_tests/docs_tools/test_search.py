"""Built pages: cells name their column, rows that define a word are entries of the search."""

import pytest

from docs_tools import search
from docs_tools.rows import Definition, Rows

PAGE = """<h2 id="cutting">Cutting</h2>
<table>
<thead>
<tr>
<th>key</th>
<th>meaning</th>
<th style="text-align: right;">default</th>
</tr>
</thead>
<tbody>
<tr>
<td><code>edge_rule</code></td>
<td>At the border.</td>
<td style="text-align: right;"><code>pad</code></td>
</tr>
</tbody>
</table>
"""


def test_a_row_gets_an_anchor_and_the_names_of_its_columns():
    rows = Rows("reference/configuration.html")
    text = rows.complete(PAGE)
    assert '<tr id="cutting.edge_rule">\n<td><code>edge_rule</code></td>\n<td>At the border.</td>\n' in text
    assert '<td data-label="default" style="text-align: right;"><code>pad</code></td>' in text
    meaning = "<p>At the border.</p><p>default: <code>pad</code></p>"
    assert rows.definitions == [Definition("cutting", "cutting.edge_rule", "<code>edge_rule</code>", meaning)]


def test_two_rows_of_one_word_have_two_anchors():
    rows = Rows("reference/configuration.html")
    rows.complete(PAGE + PAGE)
    assert [it.anchor for it in rows.definitions] == ["cutting.edge_rule", "cutting.edge_rule-"]


@pytest.mark.parametrize(
    ("page", "text"), [("how_to/cut.html", PAGE), ("reference/configuration.html", PAGE.replace("meaning", "value"))]
)
def test_other_rows_define_nothing(page: str, text: str):
    rows = Rows(page)
    assert 'data-label="default"' in rows.complete(text)
    assert rows.definitions == []


def test_a_worker_that_sorts_otherwise_is_refused():
    assert search._ranked("r.items.sort(f(...s))").startswith("r.items=self.ranked(r.items.sort(f(...s)))\n")
    with pytest.raises(ValueError, match="must sort its results once, got 0 places"):
        search._ranked("r.sort()")
