"""wokkel's part in the benchmarks: ``python wokkel_program.py ROLE``."""

from __future__ import annotations

import json
import sys

from twisted.application import service
from twisted.internet import reactor
from twisted.words.xish import domish
from wokkel.component import Component
from wokkel.xmppim import MessageProtocol


class Echo(MessageProtocol):
    def onMessage(self, message):
        reply = domish.Element((None, "message"))
        reply["to"] = message["from"]
        reply["from"] = message["to"]
        reply["id"] = message["id"]
        reply["type"] = "chat"
        reply.addElement("body", content=str(message.body))
        self.send(reply)

    def connectionLost(self, reason):
        if reactor.running:
            reactor.stop()


def echo_component(options):
    application = service.Application("echo")
    component = Component("127.0.0.1", options["port"], options["domain"], "secret")
    Echo().setHandlerParent(component)
    component.setServiceParent(application)
    component.startService()
    reactor.run()


ROLES = {"echo-component": echo_component}

if __name__ == "__main__":
    ROLES[sys.argv[1]](json.loads(sys.stdin.readline()))
