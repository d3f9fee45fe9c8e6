"""Mechanisms against vectors from standards, and against another implementation (scramp)."""

from __future__ import annotations

import base64
import itertools

import pytest
import scramp

from pcj.sasl import MECHANISMS, Challenge, Channel, Credentials, Guard
from pcj.sasl.scram import offer_hash
from pcj.sasl.server import answer
from tests.core.sasl.exchanges import Client, client

SCRAMS = [mechanism for mechanism in MECHANISMS if mechanism.name.startswith("SCRAM-")]
USERS = [("user", "pencil"), ("a,b=c", "x=1,y=2"), ("rené", "Zürich ☀"), ("o" * 200, "p" * 300)]
BINDING = ("tls-unique", b"octets of the session")

#: XEP-0474 0.5.0, 5.3: what its example offers, and the hash of that.
XEP_0474 = (
    ["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"],
    ["tls-server-end-point", "tls-exporter"],
    "G6k/rBLDqgOhRRaCuuatSDFkJ08=",
)


def test_the_hash_of_xep_0474s_example_is_ours() -> None:
    mechanisms, types, expected = XEP_0474
    assert offer_hash("sha1", mechanisms, types) == expected


def test_a_server_first_message_as_in_xep_0474_is_accepted() -> None:
    mechanisms, types, said = XEP_0474
    (sha1,) = (mechanism for mechanism in SCRAMS if mechanism.name == "SCRAM-SHA-1-PLUS")
    channel = Channel("p=tls-exporter", b"THIS IS FAKE CB DATA", tuple(mechanisms), tuple(types), vouched=True)
    user = client(sha1, Credentials("user", "pencil"), "12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6", channel=channel)
    assert user.start() == b"p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6"
    nonce = "12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6"
    final = user.challenge(f"r={nonce},s=QSXCR+Q6sek8bf92,i=4096,h={said}".encode())
    bound = base64.b64encode(b"p=tls-exporter,,THIS IS FAKE CB DATA").decode()
    assert final is not None
    assert final.startswith(f"c={bound},r={nonce},p=".encode())


def _channel(plus: bool) -> Channel:
    return Channel(f"p={BINDING[0]}", BINDING[1]) if plus else Channel()


def _by_scramp(user: Client, name: str, accounts: dict[str, str], binding: tuple[str, bytes] | None) -> None:
    """Log in to scramp's server."""
    mechanism = scramp.ScramMechanism(mechanism=name)
    infos = {who: mechanism.make_auth_info(password, iteration_count=4096) for who, password in accounts.items()}
    server = mechanism.make_server(infos.__getitem__, channel_binding=binding)
    first = user.start()
    server.set_client_first((first or b"").decode())
    final = user.challenge(server.get_server_first().encode())
    server.set_client_final((final or b"").decode())
    user.success(server.get_server_final().encode())


@pytest.mark.parametrize("mechanism", SCRAMS, ids=lambda mechanism: mechanism.name)
@pytest.mark.parametrize(("name", "password"), USERS, ids=ascii)
def test_our_client_logs_in_to_scramps_server(mechanism: object, name: str, password: str) -> None:
    (chosen,) = (each for each in SCRAMS if each is mechanism)
    plus = chosen.guard is Guard.BOUND
    user = client(chosen, Credentials(name, password), "client-nonce", channel=_channel(plus))
    _by_scramp(user, chosen.name, {name: password}, BINDING if plus else None)
    assert user.done


@pytest.mark.parametrize("mechanism", SCRAMS, ids=lambda mechanism: mechanism.name)
@pytest.mark.parametrize(("name", "password"), USERS, ids=ascii)
def test_scramps_client_logs_in_to_our_server(mechanism: object, name: str, password: str) -> None:
    (chosen,) = (each for each in SCRAMS if each is mechanism)
    plus = chosen.guard is Guard.BOUND
    names = [chosen.name]
    user = scramp.ScramClient(names, name, password, channel_binding=BINDING if plus else None)
    server = answer(
        chosen.name,
        user.get_client_first().encode(),
        password_of={name: password}.get,
        nonce="server-nonce",
        offered=names,
        bindings=dict([BINDING]) if plus else None,
    )
    step = next(server)
    assert isinstance(step, Challenge)
    user.set_server_first(step.data.decode())
    step = server.send(user.get_client_final().encode())
    user.set_server_final((step.data or b"").decode())
    with pytest.raises(StopIteration) as end:
        next(server)
    assert end.value.value == name


def test_scramp_and_we_refuse_each_others_wrong_passwords() -> None:
    for chosen, wrong in itertools.product(SCRAMS, ("pencil ", "Pencil")):
        plus = chosen.guard is Guard.BOUND
        user = client(chosen, Credentials("user", wrong), "client-nonce", channel=_channel(plus))
        with pytest.raises(scramp.ScramException):
            _by_scramp(user, chosen.name, {"user": "pencil"}, BINDING if plus else None)
        assert not user.done
