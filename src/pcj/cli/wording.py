"""The library's sentences in the words of the command line: its options are spelt as they are given there."""

from __future__ import annotations

from typing import Final

__all__ = ["with_options"]

#: What the library calls them, and what is given to the command.
_OPTIONS: Final = (
    ("ca_file=", "--ca-file"),
    ("ca_file '", "--ca-file '"),
    ("require_tls=False", "--no-require-tls"),
    ("verify_tls=False", "--insecure"),
    ("direct_tls=True", "--direct-tls"),
    ("direct_tls=False", "without --direct-tls"),
    ("plaintext=True", "--plaintext"),
    ("tls_name=", "--tls-name"),
    ("needs allow_plain", "needs --allow-plain"),
    ("channel_binding='off'", "--channel-binding off"),
    ("channel_binding='require'", "--channel-binding require"),
    ("sasl_mechanisms=('ANONYMOUS',)", "--mechanism ANONYMOUS"),
    ("sasl_mechanisms", "--mechanism"),
    ("a client_certificate", "a --client-certificate"),
    ("client_certificate '", "--client-certificate '"),
)


def with_options(text: str) -> str:
    """A sentence of the library with its options named as those of the command line."""
    for ours, option in _OPTIONS:
        text = text.replace(ours, option)
    return text
