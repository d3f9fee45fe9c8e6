#!/usr/bin/env python3
"""Writes docs/howto/cannot-connect.md: the ways to fail to connect, from the table that the tests play.

.venv/bin/python tools/draw_failures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.connect_failures.page import PAGE, draw

if __name__ == "__main__":
    PAGE.write_text(draw(), encoding="utf-8")
