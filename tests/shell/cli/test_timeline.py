"""The two ways in which events are shown."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from pcj.cli.timeline import JsonLines, Timeline
from pcj.errors import ConnectionFailed, Failure, Phase
from pcj.events import Event, Status
from pcj.stanza import message


def console(file: io.StringIO, *, width: int = 80, color: bool = False) -> Console:
    return Console(
        file=file,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        markup=False,
        emoji=False,
        highlight=False,
    )


def shown_by_timeline(statuses: list[Status], *, width: int = 80, color: bool = False) -> list[str]:
    file = io.StringIO()
    timeline = Timeline(console(file, width=width, color=color))
    timeline.heading("XMPP", "romeo@localhost")
    for status in statuses:
        timeline.show("XMPP", status)
    return file.getvalue().splitlines()[3:]


def test_times_count_from_connect_and_what_came_before_is_negative() -> None:
    lines = shown_by_timeline(
        [
            Status(Event.PCJ_NODEQUEUED, 9.9985, 1, message(to="a@b")),
            Status(Event.PCJ_CONNECT, 10.0, 2),
            Status(Event.PCJ_CONNECTED, 10.0124, 3, detail={"address": "h:1", "local": "l:2"}),
            Status(Event.PCJ_SOCKETDISCONNECT, 130.0, 4, detail={"address": "h:1"}),
        ]
    )
    assert lines == [
        "  -1.50  PCJ_NODEQUEUED        <message to=a@b>",
        "   0.00  PCJ_CONNECT",
        "  12.40  PCJ_CONNECTED         h:1 from l:2",
        "120.0 s  PCJ_SOCKETDISCONNECT  h:1",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_node_is_cut_to_one_line_and_an_error_takes_what_it_needs(width: int) -> None:
    words = "the server does not answer and nobody knows why it should be so silent " * 3
    lines = shown_by_timeline(
        [
            Status(Event.PCJ_CONNECT, 0, 1),
            Status(Event.PCJ_NODESENT, 0, 2, message(to="x" * 200, subject="y" * 100)),
            Status(Event.PCJ_CONNECTFAIL, 0, 3, error=ConnectionFailed(Failure(Phase.CONNECT, words))),
        ],
        width=width,
    )
    assert max(map(len, lines)) <= width
    assert lines[1].endswith("...")
    assert " ".join(word for line in lines[2:] for word in line.split()).endswith(words.strip())


def test_a_sentence_is_said_once_in_an_attempt_and_again_in_the_next() -> None:
    error = ValueError("the server does not host x")
    lines = shown_by_timeline(
        [
            Status(Event.PCJ_CONNECT, 0, 1),
            Status(Event.STREAM_ERROR, 0, 2, error=error),
            Status(Event.PCJ_AUTHFAIL, 0, 3, error=error),
            Status(Event.PCJ_CONNECTING, 0, 4),
            Status(Event.STREAM_ERROR, 0, 5, error=error),
        ]
    )
    assert [line[31:] for line in lines] == [
        "",
        "the server does not host x",
        "for the same reason",
        "",
        "the server does not host x",
    ]


def test_the_groups_of_events_are_told_apart_in_colour() -> None:
    statuses = [Status(event, 0, 1) for event in (Event.PCJ_CONNECT, Event.SESSION_LOST, "MINE", Event.PCJ_READY)]
    colours = [
        line.partition("m" + status.event)[0].rpartition("\x1b[")[2]
        for line, status in zip(shown_by_timeline(statuses, color=True), statuses, strict=True)
    ]
    assert len(set(colours)) == 4


def test_markup_in_remote_text_is_text() -> None:
    line = shown_by_timeline([Status(Event.PCJ_CONNECT, 0, 1, message(body="[red]:smile:[/red]"))])[0]
    assert line.endswith('<message> "[red]:smile:[/red]"')


def test_a_line_of_json_has_the_type_and_no_control_character() -> None:
    file = io.StringIO()
    lines = JsonLines(console(file))
    lines.heading("XMPP", "not shown")
    lines.note("not shown")
    lines.show("XMPP", Status(Event.PCJ_NODERECEIVED, 1.5, 7, message(body="\x9b31m\u202e" + "long " * 100)))
    (line,) = file.getvalue().splitlines()
    assert line.isprintable()
    record = json.loads(line)
    assert record["connection_type"] == "XMPP"
    assert record["event"] == "PCJ_NODERECEIVED"
    assert "\x9b31m\u202e" in record["node"]
