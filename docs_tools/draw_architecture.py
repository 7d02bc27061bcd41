"""Draw docs/pictures/architecture.svg from the imports of the code: ``make architecture``.

Every box is a package or module of ``luna_pipeline`` or ``luna_pipeline.core``. An arrow means "imports"; arrows that
follow from others are left out. Each box stands below all boxes that import it.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean

import grimp

PICTURE = Path(__file__).resolve().parents[1] / "docs/pictures/architecture.svg"
ROOT, CORE = "luna_pipeline", "luna_pipeline.core"
# The old name of a module is no part of the architecture.
LEFT_OUT = {"luna_pipeline.run_launcher", CORE}
WIDTH, BOX_HEIGHT, ROW_HEIGHT = 1560, 30, 84
Imports = dict[str, set[str]]


def rooms(graph: grimp.ImportGraph, parent: str) -> Imports:
    """Return which packages and modules directly below ``parent`` each of them imports."""
    names = graph.find_children(parent) - LEFT_OUT
    found: Imports = {name: set() for name in names}
    for importer, imported in itertools.permutations(sorted(names), 2):
        if graph.direct_import_exists(importer=importer, imported=imported, as_packages=True):
            found[importer].add(imported)
    return {name.rpartition(".")[2]: {to.rpartition(".")[2] for to in to_names} for name, to_names in found.items()}


def without_implied(imports: Imports) -> Imports:
    """Return the imports that do not follow from others (the transitive reduction)."""

    def reachable(name: str) -> set[str]:
        return imports[name].union(*(reachable(to) for to in imports[name]))

    return {name: {to for to in tos if not any(to in reachable(by) for by in tos)} for name, tos in imports.items()}


def rows_of(imports: Imports) -> list[list[str]]:
    """Return the names row by row, the top row first; imports point downwards."""

    def height(name: str) -> int:
        return 1 + max((height(to) for to in imports[name]), default=0)

    heights = {name: height(name) for name in imports}
    return [sorted(name for name in imports if heights[name] == row) for row in range(max(heights.values()), 0, -1)]


def with_bends(imports: Imports, rows: list[list[str]]) -> Imports:
    """Split arrows that span several rows by bends, which are added to ``rows``; their names hold ``>``."""
    level = {name: number for number, row in enumerate(rows) for name in row}
    arrows: Imports = {name: set() for name in imports}
    for start, ends in sorted(imports.items()):
        for end in sorted(ends):
            bends = [f"{start}>{end}>{number}" for number in range(level[start] + 1, level[end])]
            for number, bend in enumerate(bends, start=level[start] + 1):
                rows[number].append(bend)
            for one, next_one in itertools.pairwise([start, *bends, end]):
                arrows.setdefault(one, set()).add(next_one)
    return arrows


def untangled(rows: list[list[str]], arrows: Imports) -> list[list[str]]:
    """Order each row by the mean position of its neighbours, so that few arrows cross."""
    back: Imports = {}
    for start, ends in arrows.items():
        for end in ends:
            back.setdefault(end, set()).add(start)
    for _ in range(12):
        for neighbours in (back, arrows):
            place = places(rows)
            wanted = {name: (_wanted(name, neighbours, place), name) for row in rows for name in row}
            rows = [sorted(row, key=wanted.__getitem__) for row in rows]
    return rows


def _wanted(name: str, neighbours: Mapping[str, Iterable[str]], place: Mapping[str, float]) -> float:
    near = neighbours.get(name) or ()
    return round(mean(place[other] for other in near), 3) if near else place[name]


def places(rows: list[list[str]]) -> dict[str, float]:
    """Return the middle of each box and bend across the picture, evenly spread."""
    return {name: WIDTH * (n + 1) / (len(row) + 1) for row in rows for n, name in enumerate(row)}


def straightened(rows: list[list[str]], arrows: Imports) -> dict[str, float]:
    """Move boxes and bends towards their neighbours; those of a row keep their order and a distance."""
    place = places(rows)
    near: Imports = {name: set(arrows.get(name, ())) for name in place}
    for start, tos in arrows.items():
        for end in tos:
            near[end].add(start)
    for _ in range(60):
        # A box without arrows stays near the others: alone it would make the picture wider.
        middle = mean(place.values())
        for row in rows:
            wanted = [(place[name] + 2 * (_wanted(name, near, place) if near[name] else middle)) / 3 for name in row]
            place.update(zip(row, _apart(row, wanted), strict=True))
    ends = [place[name] + side * _width(name) / 2 for name in place for side in (-1, 1)]
    shift = (WIDTH - min(ends) - max(ends)) / 2
    return {name: x + shift for name, x in place.items()}


def _apart(row: list[str], wanted: list[float]) -> list[float]:
    """Return the nearest places to ``wanted``, from left to right and back, that do not overlap."""
    room = [_width(name) / 2 + (6 if ">" in name else 22) for name in row]
    from_left, from_right = list(wanted), list(wanted)
    for n in range(1, len(row)):
        from_left[n] = max(wanted[n], from_left[n - 1] + room[n - 1] + room[n])
    for n in reversed(range(len(row) - 1)):
        from_right[n] = min(wanted[n], from_right[n + 1] - room[n + 1] - room[n])
    middle = [(left + right) / 2 for left, right in zip(from_left, from_right, strict=True)]
    for n in range(1, len(row)):
        middle[n] = max(middle[n], middle[n - 1] + room[n - 1] + room[n])
    return middle


def _width(name: str) -> float:
    # Bends are narrow.
    return 10 if ">" in name else 24 + 8.4 * len(name)


def frame(title: str, imports: Imports, top: int, colour: str) -> tuple[list[str], int]:
    """Return the SVG of one frame of boxes, and where it ends."""
    imports = without_implied(imports)
    rows = rows_of(imports)
    arrows = with_bends(imports, rows)
    rows = untangled(rows, arrows)
    x, level = straightened(rows, arrows), {name: number for number, row in enumerate(rows) for name in row}
    y = {name: top + 76 + level[name] * ROW_HEIGHT for name in level}
    end = top + 76 + (len(rows) - 1) * ROW_HEIGHT + 44
    lines = [
        f'<rect x="20" y="{top}" width="{WIDTH - 40}" height="{end - top}" rx="10" fill="{colour}"/>',
        f'<text x="36" y="{top + 26}" font-size="16" font-weight="bold">{title}</text>',
    ]
    for start, ends in sorted(arrows.items()):
        for to in sorted(ends):
            from_y = y[start] + (0 if ">" in start else BOX_HEIGHT / 2)
            to_y, head = (y[to], "") if ">" in to else (y[to] - BOX_HEIGHT / 2, ' marker-end="url(#head)"')
            half = (from_y + to_y) / 2
            curve = (
                f"M{x[start]:.0f} {from_y:.0f} C{x[start]:.0f} {half:.0f} {x[to]:.0f} {half:.0f} {x[to]:.0f} {to_y:.0f}"
            )
            lines.append(f'<path d="{curve}" fill="none" stroke="#667" stroke-width="1.3"{head}/>')
    for name in itertools.chain(*rows):
        if ">" not in name:
            left, width = x[name] - _width(name) / 2, _width(name)
            box = f'x="{left:.0f}" y="{y[name] - BOX_HEIGHT // 2}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="5"'
            lines.append(f'<rect {box} fill="#fff" stroke="#334"/>')
            lines.append(f'<text x="{x[name]:.0f}" y="{y[name] + 5}" text-anchor="middle">{name}</text>')
    return lines, end


def drawing() -> str:
    """Return the picture as SVG."""
    graph = grimp.build_graph(ROOT, cache_dir=None, exclude_type_checking_imports=True)
    upper, end = frame("luna_pipeline: an arrow means “imports”", rooms(graph, ROOT), 16, "#e8eef7")
    below = "luna_pipeline.core: everything above may import it; it never imports dagster, mlflow or ray"
    lower, bottom = frame(below, rooms(graph, CORE), end + 20, "#e9f4ea")
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>'
    )
    size = f'width="{WIDTH}" height="{bottom + 16}" viewBox="0 0 {WIDTH} {bottom + 16}"'
    style = 'font-family="DejaVu Sans Mono, monospace" font-size="14"'
    background = f'<rect width="{WIDTH}" height="{bottom + 16}" fill="#fff"/>'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', head, background, *upper, *lower, "</svg>", ""]
    )


if __name__ == "__main__":
    PICTURE.write_text(drawing())
