"""The JSON document of a network: decoding it from an untrusted source, and looking up keys. Pure."""

import json
import re
from typing import Any

from cni_core.errors import DecodingFailure, InvalidConfig

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")  # of networks and containers (pkg/utils)
_DEPTH_MOST = 100
# The JSON escapes of NUL and surrogates; a surrogate pair is one character, and stays one.
_NO_TEXT = re.compile(rb"\\u(0000|[dD][89a-fA-F])")


def decode_config(stdin: bytes) -> dict[str, Any]:
    """Return the network configuration, with a valid name; raises DecodingFailure or InvalidConfig."""
    try:
        conf = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        raise DecodingFailure(f"decode network configuration on stdin: {error}") from error
    if not isinstance(conf, dict):
        raise DecodingFailure("decode network configuration on stdin: not a JSON object")
    if stdin.count(b"[") + stdin.count(b"{") > _DEPTH_MOST and _is_deep(conf):
        raise DecodingFailure(f"decode network configuration on stdin: nested over {_DEPTH_MOST} levels deep")
    if _NO_TEXT.search(stdin):
        conf = {_as_text(key): _as_text(value) for key, value in conf.items()}
    name = conf.get("name")
    if name is None or name == "":
        raise InvalidConfig("missing network name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidConfig("invalid characters found in network name", str(name))
    return conf


def _is_deep(document: object) -> bool:
    """Return whether a document is nested too deeply for recursive functions."""
    level = [document]
    for _depth in range(_DEPTH_MOST):
        level = [
            item
            for each in level
            if isinstance(each, list | dict)
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, list | dict)
        ]
    return bool(level)


def _as_text(value: Any) -> Any:  # noqa: ANN401 - JSON from anyone
    """Return a document with U+FFFD for characters that no file or link name can have: NUL, lone surrogates.

    They are replaced, not refused: a DEL of such a configuration has to succeed, and an ADD reports the name.
    """
    match value:
        case str():
            return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_as_text(item) for item in value]
        case dict():
            return {_as_text(key): _as_text(item) for key, item in value.items()}
        case _:
            return value


def section(document: object, *keys: str) -> Any:  # noqa: ANN401 - JSON from anyone
    """Look up a path of keys in nested JSON objects; None if a key is absent or a value is not an object."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document
