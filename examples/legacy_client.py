"""A client of the old Jabber protocol that talks to itself: for servers from before XMPP (XEP-0078).

It logs in to an account by jabber:iq:auth, says that it is there, prints every node that comes in, and sends itself a
message now and then, until Ctrl-C. Off this machine TLS is required all the same.

    python examples/legacy_client.py romeo@localhost/orchard --host 127.0.0.1

A server that accepts only the password itself, and no digest of it (Prosody, for one), needs --plaintext.

The password is taken from the environment variable PCJ_PASSWORD, or asked for. The exit code is 1 if the connection
could not be made or was lost, 2 if the command line cannot be used, and 130 after Ctrl-C.
"""

import argparse
import asyncio
import getpass
import os
import random
import sys
import time

from pcj import LEGACY, Broker, ConfigError, Event, PcjError, message, presence, to_bytes


async def run(broker: Broker, pause: float) -> str:
    """Print what comes in until the connection has ended; returns why it did."""
    # All events, of which PCJ_NODERECEIVED is one. Who asks for that one by name is taken to answer IQ requests.
    events = broker.events()  # made before connecting, so that nothing is missed
    async with broker:  # connects, waits for READY, and shuts down at the end
        print("--- Connection is ready for use! ---", flush=True)
        broker.output(presence())
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
    parser = argparse.ArgumentParser(description="A client of the old Jabber protocol that talks to itself.")
    parser.add_argument("jid", help="the account: name@domain, or name@domain/resource")
    parser.add_argument("--host", help="where to connect; by default what DNS says of the domain")
    parser.add_argument("--port", type=int, help="by default 5222")
    parser.add_argument("--ca-file", help="PEM file of the authorities to trust, in place of the system's")
    parser.add_argument("--plaintext", action="store_true", help="send the password itself, not a digest of it")
    parser.add_argument("--pause", type=seconds, default=5.0, help="the longest time between two messages, in seconds")
    options = parser.parse_args()
    try:
        broker = Broker(
            LEGACY,
            options.jid,
            password=password_of(options.jid),
            host=options.host,
            port=options.port,
            ca_file=options.ca_file,
            plaintext=options.plaintext,
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
