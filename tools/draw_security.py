#!/usr/bin/env python3
"""Writes docs/security.md: the attacks that pcj is held against, from the table that the tests play.

.venv/bin/python tools/draw_security.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.attacks.page import PAGE, draw

if __name__ == "__main__":
    PAGE.write_text(draw(), encoding="utf-8")
