"""A component that talks to itself: a whole domain, at the router of jabberd2.

It logs in to the router, binds the domain, prints every node that comes in, whatever address of the domain it is for,
and sends itself a message now and then, until Ctrl-C. Stanzas travel in <route/> on this link; pcj wraps and unwraps
them. TLS is required, so the router needs a certificate (<pemfile> in router.xml).

    python examples/jabberd20_component.py echo.example.org --host router.example.org --username jabberd

The password of the router's user is taken from the environment variable PCJ_PASSWORD, or asked for. The exit code is 1
if the connection could not be made or was lost, 2 if the command line cannot be used, and 130 after Ctrl-C.
"""

import argparse
import asyncio
import getpass
import os
import random
import sys
import time

from pcj import JABBERD20_COMPONENT, Broker, ConfigError, Event, PcjError, message, presence, to_bytes


async def run(broker: Broker, pause: float) -> str:
    """Print what comes in until the connection has ended; returns why it did."""
    # All events, of which PCJ_NODERECEIVED is one. Who asks for that one by name is taken to answer IQ requests.
    events = broker.events()  # made before connecting, so that nothing is missed
    async with broker:  # connects, waits for READY, and shuts down at the end
        print("--- Connection is ready for use! ---", flush=True)
        broker.output(presence(to=broker.jid))  # a component's stanza must say whom it is for; `from` is added
        talking = asyncio.create_task(talk(broker, pause))
        try:
            async for status in events:
                if status.event == Event.PCJ_NODERECEIVED and status.node is not None:
                    print("--- Node received:", shown(to_bytes(status.node).decode()), flush=True)
        finally:
            talking.cancel()
        return broker.explain()


async def talk(broker: Broker, pause: float) -> None:
    """Send ourselves a message now and then."""
    while True:
        broker.output(message(to=broker.jid, body=f"This is a test, sent at {time.strftime('%H:%M:%S')}"))
        await asyncio.sleep(random.uniform(0, pause))


def shown(text: str) -> str:
    """Text from elsewhere; what would upset the terminal, or it does not know, as XML's character references."""
    harmless = "".join(each if each.isprintable() else f"&#{ord(each)};" for each in text)
    return harmless.encode(sys.stdout.encoding, "xmlcharrefreplace").decode(sys.stdout.encoding)


def seconds(text: str) -> float:
    """More than 0 and not for ever."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def password_of(name: str) -> str:
    """Never from the command line, which every user of the machine can read."""
    given = os.environ.get("PCJ_PASSWORD")
    if given:
        return given
    if not sys.stdin.isatty():
        raise ConfigError("there is no password: set PCJ_PASSWORD, or run it at a terminal to be asked")
    return getpass.getpass(f"Password of {shown(name)}: ")


def main() -> int:
    parser = argparse.ArgumentParser(description="A component of jabberd2 that talks to itself.")
    parser.add_argument("domain", help="the domain to bind")
    parser.add_argument("--host", help="where to connect; by default localhost")
    parser.add_argument("--port", type=int, help="by default 5347")
    parser.add_argument("--ca-file", help="PEM file of the authorities to trust, in place of the system's")
    parser.add_argument("--username", default="jabberd", help="the router's user; by default jabberd")
    parser.add_argument(
        "--bind-option",
        choices=("log", "default"),
        help="log: a copy of every packet comes here; default: what is for no known domain comes here",
    )
    parser.add_argument("--pause", type=seconds, default=5.0, help="the longest time between two messages, in seconds")
    options = parser.parse_args()
    try:
        broker = Broker(
            JABBERD20_COMPONENT,
            options.domain,
            password=password_of(options.username),
            host=options.host,
            port=options.port,
            ca_file=options.ca_file,
            username=options.username,
            bind_option=options.bind_option,
        )
        why = asyncio.run(run(broker, options.pause))
    except ConfigError as error:
        parser.error(shown(str(error)))
    except PcjError as error:
        why = str(error)
    except (KeyboardInterrupt, EOFError):  # Ctrl-C; Ctrl-D in place of a password
        return 130
    except BrokenPipeError:  # whoever read what we print is gone, and nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    print(f"{parser.prog}: {shown(why)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
