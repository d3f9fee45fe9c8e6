"""The targets, one module each: its docstring is its invariant."""

TARGETS: tuple[str, ...] = (
    "negotiating",
    "ready",
    "xmpp",
    "legacy",
    "jabberd14",
    "jabberd20",
    "scram",
    "digest_md5",
    "jid",
    "tls",
    "server_hello",
    "certificate",
    "document",
    "filters",
    "redirect",
    "envelope",
)
"""Their names, in the order in which `python -m fuzz.run all` takes them."""
