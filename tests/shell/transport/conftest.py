"""Fixtures of the transport's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.transport.pair import ENGINES, authority


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(file))
    return str(file)


@pytest.fixture(params=ENGINES)
def library(request: pytest.FixtureRequest) -> str:
    """Each engine in turn: what one promises, the other does."""
    return str(request.param)
