from collections.abc import Mapping

from pcj.stanza import Node

def plain_data(
    node: Node,
    inherited: str,
    tags: dict[object, tuple[str, str, str, str]],
    starts: dict[object, str],
    defaults: Mapping[str, str] | None,
    /,
) -> bytes | None: ...
