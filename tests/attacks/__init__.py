"""Attacks on a broker, each played by a hostile server through a real socket, and the page that lists them.

An attack is a value (`attack.Attack`): what the attacker does, what a client without protection would lose, what pcj
does, and its plays. A play is an async function that is given a `stage.Stage`; it lets a hostile server (`foe.Foe`)
say what it likes to a broker of any type, and asserts what came of it. A table of variants becomes several plays of
one attack. What must be true after every play is looked at by `Stage.check`: the password and what it can be read
from is nowhere in what was sent, told or logged, every connection is closed, the order of events holds, no task is
left.

To add one: put it, with the next free number, into a module of its section (`rows_*`, each says which numbers it has)
and into that module's `ROWS`, and write docs/security.md anew (tools/draw_security.py). The numbers of a section have
no gaps; a test looks.
"""
