"""How bytes get to the peer: names to addresses, addresses to a TCP connection, TLS over buffers. No XMPP in here."""
