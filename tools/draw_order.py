#!/usr/bin/env python3
"""Writes the order of events down: the pictures docs/images/order*.svg and the tables of docs/events.md.

    .venv/bin/python tools/draw_order.py

All of it is made from `pcj.protocol.order`; nothing here knows a place by its name but the two ends of the pictures,
"idle" and "ready". tests/core/protocol/test_order_drawn.py holds what is committed against what this would write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from pcj.config import JABBERD14_COMPONENT, JABBERD20_COMPONENT, LEGACY, XMPP
from pcj.events import Event
from pcj.protocol.order import ANYWHERE, PAIRS, ROWS, START, Row

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- order: begin -->", "<!-- order: end -->"
READY = "ready"
LETTERS = {XMPP: "X", LEGACY: "L", JABBERD14_COMPONENT: "C14", JABBERD20_COMPONENT: "C20"}

#: What ends things: these symbols are no steps of the way to READY.
ENDS = frozenset(
    {
        Event.PCJ_STREAMEND,
        Event.PCJ_SHUTDOWN_START,
        Event.PCJ_SHUTDOWN_FINISH,
        Event.PCJ_SOCKETFAIL,
        Event.PCJ_SOCKETDISCONNECT,
        Event.STREAM_ERROR,
        Event.SESSION_LOST,
    }
)
#: Places that are others with a circumstance added: "error, stream", "closing, asked".
MARK = ", "


def name_of(symbol: str) -> str:
    """An event as the tables and pictures have it."""
    return symbol.removeprefix("PCJ_")


def letters(types: Collection[str]) -> str:
    """Connection types in short; nothing where it is all of them."""
    return "" if set(types) >= set(LETTERS) else " ".join(LETTERS[each] for each in LETTERS if each in types)


def is_failure(symbol: str) -> bool:
    """Whether it tells that a step of the negotiation failed."""
    return symbol.endswith("FAIL") and symbol not in ENDS


# ---- the way to READY


def way() -> list[Row]:
    """The rows that lead from idle to ready, without what ends or fails; a session lost on the way is a step."""
    steps = [
        row
        for row in ROWS
        if not is_failure(row.symbol)
        and (row.symbol not in ENDS or (row.symbol == Event.SESSION_LOST and row.place != row.then))
        and MARK not in row.place + row.then
        and row.place != READY
    ]
    on_it = _closure({START}, steps, forward=True) & _closure({READY}, steps, forward=False)
    return [row for row in steps if row.place in on_it and row.then in on_it]


def _closure(places: set[str], rows: list[Row], *, forward: bool) -> set[str]:
    found = set(places)
    while True:
        more = {row.then if forward else row.place for row in rows if (row.place if forward else row.then) in found}
        if more <= found:
            return found
        found |= more


# ---- the layout


@dataclass
class Box:
    """A place in a picture. `slots`: the lines at its right side, from the top."""

    name: str
    note: str = ""
    slots: list[tuple[str, Edge]] = field(default_factory=list)
    top: float = 0.0

    @property
    def height(self) -> float:
        """Enough for its lines."""
        return max(BOX, SLOT * len(self.slots) + 8)


@dataclass
class Edge:
    """Events that lead from one place to another."""

    source: str
    target: str
    symbols: list[str]
    types: str
    lane: int = -1

    @property
    def label(self) -> str:
        """What is written beside it."""
        said = ", ".join(name_of(symbol) for symbol in self.symbols)
        return f"{said}  {self.types}" if self.types else said


BOX, SLOT, GAP = 26, 17, 30
CHARACTER = 7.25
LANE = 15


def order_of(edges: list[Edge], first: str, last: str | None) -> list[str]:
    """The places from the top down, each below all that lead to it, but for what leads back."""
    outgoing: dict[str, list[str]] = {}
    for edge in edges:
        outgoing.setdefault(edge.source, []).append(edge.target)
        outgoing.setdefault(edge.target, [])
    done: list[str] = []
    seen: set[str] = set()

    def visit(place: str) -> None:
        seen.add(place)
        for then in outgoing[place]:
            if then not in seen:
                visit(then)
        done.append(place)

    for place in [first, *outgoing]:
        if place not in seen:
            visit(place)
    order = done[::-1]
    # What only leads back stands right below where it comes from.
    stray = [] if last is None else [place for place in order[order.index(last) + 1 :] if outgoing[place]]
    for place in stray:
        order.remove(place)
        order.insert(min(order.index(edge.source) for edge in edges if edge.target == place) + 1, place)
    return order


def layout(edges: list[Edge], first: str, last: str | None, notes: Mapping[str, str]) -> tuple[list[Box], list[Edge]]:
    """Boxes from the top down; edges to the box below have no lane, the others one at the right side."""
    order = order_of(edges, first, last)
    boxes = {name: Box(name, notes.get(name, "")) for name in order}
    row = {name: index for index, name in enumerate(order)}
    routed = []
    straight: set[str] = set()
    for edge in edges:
        if edge.source == edge.target:
            boxes[edge.source].slots.append(("self", edge))
        elif row[edge.target] == row[edge.source] + 1 and edge.source not in straight:
            straight.add(edge.source)
        else:
            routed.append(edge)
    # Shorter ways run further inside. Ways into one place share a lane where they can.
    taken: list[list[tuple[int, int, str]]] = []
    for edge in sorted(routed, key=lambda edge: (abs(row[edge.target] - row[edge.source]), row[edge.source])):
        low, high = sorted((row[edge.source], row[edge.target]))
        free = (
            all(high < begin or finish < low or target == edge.target for begin, finish, target in spans)
            for spans in taken
        )
        edge.lane = next((lane for lane, is_free in enumerate(free) if is_free), len(taken))
        if edge.lane == len(taken):
            taken.append([])
        taken[edge.lane].append((low, high, edge.target))
    for edge in sorted(routed, key=lambda edge: edge.lane):
        if not any(kind == "in" and other.lane == edge.lane for kind, other in boxes[edge.target].slots):
            boxes[edge.target].slots.insert(0, ("in", edge))
        boxes[edge.source].slots.append(("out", edge))
    top = 0.0
    for name in order:
        boxes[name].top = top
        top += boxes[name].height + (GAP if name in straight else GAP / 2)
    return [boxes[name] for name in order], edges


# ---- the picture

STYLE = """
  text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12px }
  .ground { fill: #ffffff; stroke: #d0d7de } .ink { fill: #1f2328 } .soft { fill: #59636e } .fail { fill: #b3261e }
  .pcj { fill: #0b5cad } .box { fill: #f6f8fa; stroke: #59636e } .line { stroke: #6e7781; fill: none }
  .tip { fill: #6e7781 } .last { fill: #dafbe1; stroke: #1a7f37 } .title { font-size: 15px; font-weight: bold }
"""
DARK = """
  .ground { fill: #0d1117; stroke: #3d444d } .ink { fill: #e6edf3 } .soft { fill: #9198a1 } .fail { fill: #ff8a80 }
  .pcj { fill: #79b8ff } .box { fill: #161b22; stroke: #9198a1 } .line { stroke: #848d97 } .tip { fill: #848d97 }
  .last { fill: #12361d; stroke: #3fb950 }
"""
#: Lines to different places, on light and on dark ground, so that an eye can follow them.
COLOURS = (
    ("#6e7781", "#848d97"),
    ("#0550ae", "#6cb6ff"),
    ("#953800", "#f0883e"),
    ("#6639ba", "#d2a8ff"),
    ("#116329", "#56d364"),
    ("#a40e26", "#ff7b72"),
    ("#4d5a00", "#d4c84a"),
)


def draw(
    title: str, words: list[str], edges: list[Edge], first: str, last: str | None, notes: Mapping[str, str]
) -> str:
    """A picture: places from the top down, events on the arrows, failures at the left."""
    boxes, edges = layout(edges, first, last, notes)
    place = {box.name: box for box in boxes}
    above = 44 + 18 * len(words)
    left = 24 + max((len(box.note) for box in boxes), default=0) * CHARACTER + 16
    width = max(len(box.name) for box in boxes) * CHARACTER + 24
    right = left + width
    labels = max((len(edge.label) for edge in edges if edge.lane >= 0 or edge.source == edge.target), default=0)
    lanes = right + 22 + labels * CHARACTER + 16
    used = max((edge.lane for edge in edges), default=-1) + 1
    whole = max(lanes + used * LANE + 14, 40 + max(map(len, words)) * CHARACTER)
    out: list[str] = []
    targets = dict.fromkeys(edge.target for edge in edges if edge.lane >= 0)
    colour = {name: 1 + index % (len(COLOURS) - 1) for index, name in enumerate(targets)}

    def slot(box: Box, edge: Edge, kind: str) -> float:
        for index, (found, other) in enumerate(box.slots):
            same = other is edge or (kind == "in" and found == "in" and other.lane == edge.lane)
            if found == kind and same:
                return above + box.top + (box.height - SLOT * len(box.slots)) / 2 + SLOT * index + SLOT / 2
        raise LookupError(edge)

    def text(x: float, y: float, said: str, style: str, anchor: str = "start") -> None:
        out.append(f'<text class="{style}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(said)}</text>')

    def label(x: float, y: float, edge: Edge) -> None:
        types = f'<tspan class="soft" dx="8">{edge.types}</tspan>' if edge.types else ""
        said = escape(", ".join(name_of(symbol) for symbol in edge.symbols))
        out.append(f'<text class="pcj" x="{x:.0f}" y="{y:.0f}">{said}{types}</text>')

    for edge in edges:
        source, target = place[edge.source], place[edge.target]
        if edge.source == edge.target:
            y = slot(source, edge, "self")
            out.append(f'<path class="line" d="M{right:.0f} {y - 4:.0f}h8q6 4 0 8h-5"/>')
            out.append(f'<path class="tip" d="M{right:.0f} {y + 4:.0f}l7 -3v6z"/>')
            label(right + 22, y + 4, edge)
        elif edge.lane < 0:
            middle, begin, end = left + width / 2, above + source.top + source.height, above + target.top
            out.append(f'<path class="line" d="M{middle:.0f} {begin:.0f}V{end - 6:.0f}"/>')
            out.append(f'<path class="tip" d="M{middle:.0f} {end:.0f}l-4 -8h8z"/>')
            label(middle + 10, (begin + end) / 2 + 4, edge)
        else:
            x, begin, end = lanes + edge.lane * LANE, slot(source, edge, "out"), slot(target, edge, "in")
            start = right + 26 + len(edge.label) * CHARACTER
            bend = 5 if end > begin else -5
            hue = colour[edge.target]
            out.append(f'<path class="line l{hue}" d="M{right:.0f} {begin:.0f}h16M{start:.0f} {begin:.0f}H{x - 5:.0f}'
                       f'q5 0 5 {bend}V{end - bend:.0f}q0 {bend} -5 {bend}H{right + 8:.0f}"/>')  # fmt: skip
            out.append(f'<path class="t{hue}" d="M{right:.0f} {end:.0f}l8 -4v8z"/>')
            label(right + 20, begin + 4, edge)
    for box in boxes:
        y = above + box.top
        style = "last" if box.name == READY else "box"
        out.append(
            f'<rect class="{style}" x="{left:.0f}" y="{y:.0f}" width="{width:.0f}" height="{box.height:.0f}" rx="6"/>'
        )
        text(left + width / 2, y + box.height / 2 + 4, box.name, "ink", "middle")
        if box.note:
            out.append(f'<path class="line" d="M{left:.0f} {y + box.height / 2:.0f}h-6"/>')
            text(left - 12, y + box.height / 2 + 4, box.note, "fail", "end")
    height = above + boxes[-1].top + boxes[-1].height + 22
    said = "\n".join(
        f'<text class="soft" x="20" y="{50 + 18 * index}">{escape(line)}</text>' for index, line in enumerate(words)
    )
    light, dark = (
        "".join(f"  .l{n} {{ stroke: {c[ground]} }} .t{n} {{ fill: {c[ground]} }}\n" for n, c in enumerate(COLOURS))
        for ground in (0, 1)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:.0f} {height:.0f}" width="{whole:.0f}" \
height="{height:.0f}" role="img" aria-label="{escape(title)}">
<style>{STYLE}{light}  @media (prefers-color-scheme: dark) {{{DARK}{dark}  }}
</style>
<rect class="ground" x="0.5" y="0.5" width="{whole - 1:.0f}" height="{height - 1:.0f}" rx="8"/>
<text class="ink title" x="20" y="28">{escape(title)}</text>
{said}
{chr(10).join(out)}
</svg>
"""


def edges_of(rows: Iterable[Row]) -> list[Edge]:
    """One edge for all events of the same types that lead from one place to another."""
    found: dict[tuple[str, str, str], Edge] = {}
    for row in rows:
        key = row.place, row.then, letters(row.types)
        edge = found.setdefault(key, Edge(row.place, row.then, [], key[2]))
        edge.symbols.append(row.symbol)
    return list(found.values())


def to_ready() -> str:
    """The first picture."""
    rows = way()
    places = {row.place for row in rows}
    notes = {
        place: " ".join(
            dict.fromkeys(name_of(row.symbol) for row in ROWS if row.place == place and is_failure(row.symbol))
        )
        for place in places
    }
    words = [
        "Places in boxes, events on the arrows; PCJ_ is left out. In red: what says that it failed here.",
        "X, L, C14, C20: only for these connection types. What may come anywhere is not drawn.",
    ]
    return draw("The order of events: to READY", words, edges_of(rows), START, READY, notes)


#: In the second picture the negotiation is one place.
NEGOTIATION = "any place of the negotiation"


def negotiation() -> set[str]:
    """Places between TCP and READY: where a stream error can come and is none of READY's."""
    return {row.place for row in way()} & {row.place for row in ROWS if row.symbol == Event.STREAM_ERROR}


def to_the_end() -> str:
    """The second picture."""
    inside, steps = negotiation(), way()

    dialling = {row.place for row in ROWS if row.symbol == Event.PCJ_CONNECTED}  # its ends are in the first picture

    def folded(place: str) -> str:
        return NEGOTIATION if place.removeprefix(f"error{MARK}") in inside else place

    rows = dict.fromkeys(
        Row(folded(row.place), row.symbol, folded(row.then))
        for row in ROWS
        if row not in steps
        and row.place.count(MARK) < 2
        and row.then.count(MARK) < 2
        and row.place.partition(MARK)[0] not in dialling
        and not (row.place == row.then and row.place != NEGOTIATION)
    )
    words = [
        "Behind READY, and behind whatever broke a negotiation off. PCJ_ is left out.",
        "What changes nothing is left out, and so are places of two wishes at a time; the tables have them.",
    ]
    return draw("The order of events: how it ends", words, edges_of(rows), NEGOTIATION, None, {})


# ---- the tables


def cell(symbols: Iterable[str]) -> str:
    """Events, in a table."""
    return ", ".join(dict.fromkeys(name_of(symbol) for symbol in symbols))


def table(heads: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table of Markdown."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for line in lines:
        yield f"| {' | '.join(line)} |"


def table_of_the_way() -> Iterator[str]:
    """Every place of the way to READY: what may come, its failures among it."""
    steps = way()
    order = order_of(edges_of(steps), START, READY)
    failures = [row for row in ROWS if is_failure(row.symbol) and row.place in order]
    lines = []
    for place in order:
        said = place
        for edge in edges_of(row for row in (*steps, *failures) if row.place == place):
            lines.append((said, cell(edge.symbols), edge.target, edge.types))
            said = ""
    yield from table(("in this place", "there may come", "and then it is", "types"), lines)


def table_of_the_rest() -> Iterator[str]:
    """All other rows; places in which the same may come share a line."""
    steps, inside = way(), negotiation()
    on_it = {row.place for row in steps}
    told = {f"error{MARK}{place}" for place in inside} & {row.place for row in ROWS}
    failed = sorted({row.then for row in ROWS if row.place in told and is_failure(row.symbol)})
    places: dict[tuple[str, str, str], list[str]] = {}
    for row in ROWS:
        if row in steps or (is_failure(row.symbol) and row.place in on_it):
            continue
        symbol, then, types = row.symbol, row.then, letters(row.types)
        if row.place in told and is_failure(symbol):
            symbol, then = OWN_FAIL, " or ".join(failed)
        if row.place in inside | told:
            types = ""  # those of the place
        if then == f"error{MARK}{row.place}":
            then = "the same, the error told"
        places.setdefault((symbol, "the same" if then == row.place else then, types), []).append(row.place)
    lines: dict[tuple[str, str, str], list[str]] = {}
    for (symbol, then, types), found in places.items():
        lines.setdefault((in_words(found, inside, told), then, types), []).append(symbol)
    # First what concerns the negotiation, then the rest as it comes in the table.
    rest = sorted(lines.items(), key=lambda line: not line[0][0].startswith((NEGOTIATION, *inside)))
    yield from table(
        ("in this place", "there may come", "and then it is", "types"),
        [(place, cell(symbols), then, types) for (place, then, types), symbols in rest],
    )


OWN_FAIL = "the FAIL of the place"


def in_words(places: list[str], inside: set[str], told: set[str]) -> str:
    """Places in a cell; those of the negotiation in short, where the same holds with an error told and without."""
    found = list(dict.fromkeys(places))
    plain, after = inside & set(found), told & set(found)
    if after == told and not plain:
        said = [f"{NEGOTIATION}, the error told"]
    elif after and after == {f"error{MARK}{place}" for place in plain} & told:
        missing = [place for place in order_of(edges_of(way()), START, READY) if place in inside - plain]
        said = [NEGOTIATION + (f" but {' and '.join(missing)}" if missing else "")]
    else:
        return "; ".join(found)
    return "; ".join([*said, *(place for place in found if place not in inside | told)])


# ---- the section


def section() -> str:
    """What stands between the markers of docs/events.md."""
    lines = [
        BEGIN,
        "",
        "![From CONNECT to READY: which event may follow which](images/order.svg)",
        "",
        *table_of_the_way(),
        "",
        "Behind READY, and wherever a negotiation breaks off:",
        "",
        "![From READY, or out of the negotiation, to the end](images/order-ends.svg)",
        "",
        *table_of_the_rest(),
        "",
        f"What may come anywhere, and changes nothing: {cell(each for each in Event if each in ANYWHERE)}.",
        "",
        "What is open over many places:",
        "",
        *table(
            ("", "begins with", "and ends with one of", "at most"),
            [
                (pair.name, ordered(pair.begins), ordered(pair.ends), "" if pair.most is None else str(pair.most))
                for pair in PAIRS
            ],
        ),
        "",
        END,
    ]
    return "\n".join(lines)


def ordered(symbols: Collection[str]) -> str:
    """Events of a set, in one order."""
    return cell(sorted(symbols))


def written() -> dict[Path, str]:
    """Every file that this writes, and what is in it."""
    document = DOCS / "events.md"
    text = document.read_text(encoding="utf-8")
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise SystemExit(f"{document} has no lines {BEGIN} and {END}")
    return {
        DOCS / "images" / "order.svg": to_ready(),
        DOCS / "images" / "order-ends.svg": to_the_end(),
        document: before + section() + after,
    }


def main() -> None:
    """Write them."""
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
