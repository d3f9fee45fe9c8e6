"""XML namespaces, each named once, with its source."""

from typing import Final

STREAMS: Final = "http://etherx.jabber.org/streams"  # RFC 6120 4.8.1
STREAM_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-streams"  # RFC 6120 4.9.2
STANZA_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"  # RFC 6120 8.3.2
CLIENT: Final = "jabber:client"  # RFC 6120 4.8.2
SERVER: Final = "jabber:server"  # RFC 6120 4.8.2
COMPONENT_ACCEPT: Final = "jabber:component:accept"  # XEP-0114
COMPONENT_CONNECT: Final = "jabber:component:connect"  # XEP-0114
JABBERD_COMPONENT: Final = "http://jabberd.jabberstudio.org/ns/component/1.0"  # jabberd2's router protocol
TLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"  # RFC 6120 5
SASL: Final = "urn:ietf:params:xml:ns:xmpp-sasl"  # RFC 6120 6
SASL2: Final = "urn:xmpp:sasl:2"  # XEP-0388
SASL_BINDING: Final = "urn:xmpp:sasl-cb:0"  # XEP-0440
STREAM_LIMITS: Final = "urn:xmpp:stream-limits:0"  # XEP-0478
BIND: Final = "urn:ietf:params:xml:ns:xmpp-bind"  # RFC 6120 7
SESSION: Final = "urn:ietf:params:xml:ns:xmpp-session"  # RFC 3921 3
IQ_AUTH: Final = "jabber:iq:auth"  # XEP-0078
IQ_AUTH_FEATURE: Final = "http://jabber.org/features/iq-auth"  # XEP-0078 3
STREAM_MANAGEMENT: Final = "urn:xmpp:sm:3"  # XEP-0198
STREAM_MANAGEMENT_2: Final = "urn:xmpp:sm:2"  # XEP-0198 before 1.3; still offered beside the other
IQ_REGISTER: Final = "jabber:iq:register"  # XEP-0077
PING: Final = "urn:xmpp:ping"  # XEP-0199
VERSION: Final = "jabber:iq:version"  # XEP-0092
DISCO_INFO: Final = "http://jabber.org/protocol/disco#info"  # XEP-0030
DISCO_ITEMS: Final = "http://jabber.org/protocol/disco#items"  # XEP-0030
XML: Final = "http://www.w3.org/XML/1998/namespace"  # Namespaces in XML 1.0, 3: bound to the prefix xml
XMLNS: Final = "http://www.w3.org/2000/xmlns/"  # the same: bound to xmlns, never to be declared

#: Namespaces in which stanzas travel; a top-level stanza in any of them is the same stanza (RFC 6120 4.8.3).
CONTENT: Final = frozenset({CLIENT, SERVER, COMPONENT_ACCEPT, COMPONENT_CONNECT})
