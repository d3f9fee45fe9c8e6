"""Filters, held against what real servers make of a message on its way."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

from pcj import Event, Node, Status, message
from tests.interop.links import Pair, Watched, counterpart, ready, run
from tests.interop.matrix import Seen, behaviour
from tests.interop.servers import RealServer

NAMESPACE = "urn:example:markup"
BODY = "Здравствуй"


def said(receiver: Watched, identity: str) -> Node:
    """A chat message with a body, and two elements of another namespace."""
    node = message(to=receiver.jid, type="chat", id=identity, body=BODY)
    for colour in ("red", "green"):
        ET.SubElement(node, f"{{{NAMESPACE}}}markup", {"colour": colour})
    return node


def fired(link: Watched, node: Node) -> list[Status]:
    """What was fired of a node, in order."""
    return [status for status in link.statuses if status.node is node]


def names(statuses: list[Status]) -> list[str]:
    return [status.event.removeprefix("PCJ_") for status in statuses]


def heard(pair: Pair, server: RealServer, prepare: Callable[[Watched], None]) -> list[Status]:
    """All that a message from somebody else fires, when `prepare` has set filters on the link."""

    async def scenario() -> list[Status]:
        async with ready(pair.broker(server), counterpart(pair, server)) as (link, other):
            prepare(link)
            other.broker.output(said(link, "m1"))
            return fired(link, await link.message())

    return run(scenario())


def selected(status: Status) -> str:
    """What a filter selected: an element by its name, all else as it is."""
    chosen: Any = status.detail["selected"]
    if not isinstance(chosen, list):
        return f"{chosen:g}" if isinstance(chosen, float) else repr(chosen)
    told = [each if isinstance(each, str) else f"`<{each.tag.rpartition('}')[2]}>`" for each in chosen]
    return ", ".join(told)


def told(statuses: list[Status]) -> str:
    """The events in order, those of filters with what they selected."""
    return ", ".join(
        f"`{name}`" if status.event == Event.PCJ_NODERECEIVED else f"{name}: {selected(status)}"
        for name, status in zip(names(statuses), statuses, strict=True)
    )


@behaviour("filter added")
def test_a_filter_fires_for_what_it_selects_and_the_node_is_received_all_the_same(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    def prepare(link: Watched) -> None:
        link.broker.add_filter("chat", "/message[@type='chat']/body")
        link.broker.add_filter("groupchat", "/message[@type='groupchat']")
        link.broker.add_filter("nested", "/route/message")

    statuses = heard(pair, server, prepare)
    assert names(statuses) == ["chat", "NODERECEIVED"]
    chosen = statuses[0].detail["selected"]
    assert isinstance(chosen, list)
    assert [(element.tag, element.text) for element in chosen] == [("{jabber:client}body", BODY)]
    assert statuses[0].detail["expression"] == "/message[@type='chat']/body"
    seen(told(statuses))


@behaviour("filter removed")
def test_a_filter_that_was_removed_fires_no_more(pair: Pair, server: RealServer, seen: Seen) -> None:
    async def scenario() -> None:
        async with ready(pair.broker(server), counterpart(pair, server)) as (link, other):
            link.broker.add_filter("chat", "/message")
            other.broker.output(said(link, "m1"))
            before = fired(link, await link.message())
            assert link.broker.remove_filter("chat") is True
            assert link.broker.remove_filter("chat") is False
            other.broker.output(said(link, "m2"))
            after = fired(link, await link.message(2))
            assert (names(before), names(after)) == (["chat", "NODERECEIVED"], ["NODERECEIVED"])
            seen(f"before: {', '.join(names(before)[:-1])}, `{names(before)[-1]}`; after: `{' '.join(names(after))}`")

    run(scenario())


@behaviour("overlapping filters")
def test_filters_that_overlap_fire_in_the_order_in_which_they_were_added(
    pair: Pair, server: RealServer, seen: Seen
) -> None:
    def prepare(link: Watched) -> None:
        for event, expression in (("third", "//body"), ("first", "/message"), ("second", "/message[@type='chat']")):
            link.broker.add_filter(event, expression)

    statuses = heard(pair, server, prepare)
    assert names(statuses) == ["third", "first", "second", "NODERECEIVED"]
    seen(", ".join([*names(statuses)[:-1], f"`{names(statuses)[-1]}`"]))


@behaviour("filter with namespaces")
def test_a_filter_selects_by_namespace(pair: Pair, server: RealServer, seen: Seen) -> None:
    def prepare(link: Watched) -> None:
        link.broker.add_filter("colours", "//m:markup/@colour", {"m": NAMESPACE})
        link.broker.add_filter("both", "/message/m:markup[2]", {"m": NAMESPACE})
        link.broker.add_filter("other", "//m:markup", {"m": "urn:example:other"})
        link.broker.add_filter("none", "//markup")

    statuses = heard(pair, server, prepare)
    assert names(statuses) == ["colours", "both", "NODERECEIVED"]
    assert statuses[0].detail["selected"] == ["red", "green"]
    seen(told(statuses))


@behaviour("filters yielding strings and numbers")
def test_a_filter_may_yield_a_string_a_number_or_a_truth(pair: Pair, server: RealServer, seen: Seen) -> None:
    def prepare(link: Watched) -> None:
        link.broker.add_filter("text", "string(/message/body)")
        link.broker.add_filter("number", "count(//m:markup)", {"m": NAMESPACE})
        link.broker.add_filter("truth", "boolean(/message[@type='chat'])")
        for event, nothing in (("no-text", "string(/message/subject)"), ("zero", "count(//subject)")):
            link.broker.add_filter(event, nothing)

    statuses = heard(pair, server, prepare)
    assert names(statuses) == ["text", "number", "truth", "NODERECEIVED"]
    assert [status.detail["selected"] for status in statuses[:-1]] == [BODY, 2.0, True]
    seen(told(statuses))
