"""docs/reliability.md, from the figures of the runs, which are kept beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from bench.chaos.picture import draw
from bench.chaos.rows import Row
from bench.chaos.table import TABLE

__all__ = ["PAGE", "keep_long", "keep_rows", "page", "write"]

_DOCS: Final = Path(__file__).parent.parent.parent / "docs"
PAGE: Final = _DOCS / "reliability.md"
#: What was measured: the rows, and each long run.
_ROWS: Final = _DOCS / "reliability" / "rows.json"
_LONG: Final = _DOCS / "reliability"
_IMAGES: Final = _DOCS / "images"

_GROUPS: Final = (("link", "The link"), ("server", "The server"), ("process", "Our own process"))
#: What a row of the page is made of.
_KEPT: Final = (
    *("row", "play", "server", "seed", "note", "broken", "sent", "lost", "repeated", "expired", "dropped", "refused"),
    *("held", "acked_then_lost_by_server", "lost_with_process_undurable", "never_reached_us", "in_repeated"),
    *(
        "in_sent",
        "repeated_after_process_death",
        "in_resent_by_counterpart",
        "reconnects",
        "resumed",
        "lost_in_silence",
    ),
)

_HEAD: Final = """\
# Reliability: what is lost, and what is repeated

<!-- Made by `python -m bench.chaos report` from docs/reliability/*.json, which `rows --write`, `long --write` made. -->

Every line of this page was played against real servers, by [bench/chaos](../bench/chaos): a broker in a process of its
own, a proxy before its server that does to the link what networks do, and a counterpart, directly at the server, that
is left alone. Numbered messages go both ways; afterwards the books of both ends are compared.

What is promised:

- **Nothing is lost in silence.** Each node that was given to `output` ends in exactly one state. What may be lost was
  named by `NODE_UNCERTAIN`, `NODE_DROPPED` or `QueueFull` before.
- **Nothing is repeated that was settled.** A node is sent twice only after it was named as in doubt, and it keeps its
  id.
- **Order is kept** among what arrives, in both directions.
- What the server took over (`acked`) and lost itself, because it was killed, is counted apart: no client can know of
  it.
- What is sent *to* us without stream management while the link is down is the server's to keep or to return. It is
  counted as "never came".

These hold in every play, whatever else is said of it; a play that breaks one of them, or its row's own promise, ends
the bench with a sentence and an exit code of 1.

## How to read the tables

Each play sends some hundred messages each way. `sm` is an XMPP client with stream management and resumption (XEP-0198);
`barrier` the same without, `component` (XEP-0114) and `legacy` (iq:auth) have no stream management: there a ping proves
what was read before it. The policy for what is in doubt is `resend`, where nothing else is said. "Lost" and "repeated"
are ours; "in" is what was sent to us: never came / came twice. A dash is a zero. {prosody}
"""
_PROSODY: Final = """\
Prosody runs with one line mended: 13.0.1 reads what comes after a resumption with the parser of the dead link, and
understands nothing more if that link was cut inside a stanza (see "as Prosody comes" in K02). Random cuts would show
that, and nothing about pcj."""


def keep_rows(results: list[dict[str, Any]]) -> None:
    """Keep the figures of plays; those of others stay."""
    kept = {_key(each): each for each in _read(_ROWS, [])}
    for result in results:
        kept[_key(result)] = {name: result[name] for name in _KEPT if name in result}
    order = sorted(kept.values(), key=lambda each: (each["row"], each["server"], each["play"]))
    _ROWS.parent.mkdir(exist_ok=True)
    _ROWS.write_text("[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in order) + "\n]\n")


def _key(result: dict[str, Any]) -> tuple[str, str, str]:
    return result["row"], result["play"], result["server"].partition(" ")[0]


def keep_long(result: dict[str, Any]) -> None:
    """Keep the figures of a long run."""
    _LONG.mkdir(exist_ok=True)
    name = f"long-{result['server'].partition(' ')[0]}-{result['mode']}-{result['queue']}"
    (_LONG / f"{name}.json").write_text(json.dumps(result, indent=1).replace("\n  ", " ").replace("\n ]", " ]") + "\n")


def _read(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else otherwise


def write() -> None:
    """Write the page and its pictures."""
    runs = {path.stem: _read(path, {}) for path in sorted(_LONG.glob("long-*.json"))}
    for name, run in runs.items():
        (_IMAGES / f"reliability-{name.removeprefix('long-')}.svg").write_text(draw(run))
    PAGE.write_text(page(_read(_ROWS, []), runs))


def page(results: list[dict[str, Any]], runs: dict[str, dict[str, Any]]) -> str:
    """The page, from what was measured."""
    say = [_HEAD.format(prosody=_PROSODY)]
    if runs:
        say.append(_long_runs(runs))
    for group, title in _GROUPS:
        say.append(f"## {title}\n")
        say += [
            _row(row, [each for each in results if each["row"] == row.id])
            for row in TABLE.values()
            if row.group == group
        ]
    return "\n".join(say)


def _long_runs(runs: dict[str, dict[str, Any]]) -> str:
    say = [
        "## The long runs\n",
        "| server | link | queue | messages each way | cuts | resumed | lost | repeated | in doubt | in: never came "
        "| in: twice | longest outage | time | memory, quarter → end | seed |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs.values():
        memory = run.get("rss_kb", {})
        doubts = _dash(run["uncertain"]["count"])
        say.append(
            f"| {run['server']} | {run['mode']} | {run['queue']} | {run['sent']} | {run['cuts']} "
            f"| {_dash(run['resumed'])} | {_dash(run['lost'])} | {_dash(run['repeated'])} | {doubts} "
            f"| {_dash(run['never_reached_us'])} | {_dash(run['in_repeated'])} | {run['longest_outage_s']} s "
            f"| {run['seconds']:.0f} s | {memory.get('quarter', 0) // 1024} → {memory.get('end', 0) // 1024} MB "
            f"| {run['seed']} |"
        )
        if run["broken"]:
            say.append(f"\n**Broken**: {_cell('; '.join(run['broken']))}\n")
    say += [f"\n![{name}](images/reliability-{name.removeprefix('long-')}.svg)" for name in runs]
    return "\n".join([*say, ""])


def _row(row: Row, results: list[dict[str, Any]]) -> str:
    say = [f"### {row.id}: {row.fault}\n", f"Promised: {row.promise}.\n"]
    if row.elsewhere:
        return "\n".join([*say, f"Not played: {row.elsewhere}.\n"])
    if not results:
        return "\n".join([*say, "Not measured yet.\n"])
    say += [
        "| server | link | sent | lost | repeated | in: never came / twice | reconnects (resumed) | and | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        twice = (
            each.get("in_repeated", 0)
            + each.get("repeated_after_process_death", 0)
            + each.get("in_resent_by_counterpart", 0)
        )
        verdict = "as promised" if not each["broken"] else f"**broken**: {_cell('; '.join(each['broken']))}"
        say.append(
            f"| {each['server']} | {each['play']} | {each.get('sent', '')} | {_dash(each.get('lost', 0))} "
            f"| {_dash(each.get('repeated', 0))} | {_dash(each.get('never_reached_us', 0))} / {_dash(twice)} "
            f"| {_dash(each.get('reconnects', 0))} ({_dash(each.get('resumed', 0))}) | {_also(each)} | {verdict} |"
        )
    return "\n".join([*say, ""])


_ALSO: Final = (
    ("acked_then_lost_by_server", "acked, then lost by the server"),
    ("lost_with_process_undurable", "lost with the process, never said to be on disk"),
    ("expired", "expired"),
    ("dropped", "given up"),
    ("refused", "refused (QueueFull)"),
    ("held", "still held"),
)


def _also(result: dict[str, Any]) -> str:
    said = [f"{result[name]} {words}" for name, words in _ALSO if result.get(name)]
    return _cell("; ".join([*said, *([result["note"]] if result.get("note") else [])]))


def _dash(number: int) -> str:
    return str(number) if number else "–"  # noqa: RUF001 - a dash in a table


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:400]
