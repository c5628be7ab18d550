"""Loading a configuration object by its schema, a TypedDict: all problems at once, warnings for unknown keys.

Validation changes nothing in the object, so the object itself is the value. A valid configuration is cached:
in this process, and by its hash on disk until the next boot. It is not validated again, which spares most
ADDs the import of pydantic (110 of 250 ms). DEL and GC never come here, since they must work with a broken
configuration.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar, cast

from cni_core import __version__, run_directory, statefile
from cni_core.errors import InvalidConfig, IoFailure

_CACHE = run_directory.VALIDATED
# Keys that differ from call to call; the code that reads them checks them.
_PER_CALL = frozenset({"args", "prevResult", "runtimeConfig"})

_known: dict[str, list[str]] = {}  # of this process; the files may be gone
_KNOWN_MOST = 1000

_SchemaT = TypeVar("_SchemaT")


class DnsKeys(TypedDict, total=False):
    """Name servers in a configuration (CNI spec 1.1.0, section 1)."""

    nameservers: list[str]
    domain: str
    search: list[str]
    options: list[str]


def load(
    schema: type[_SchemaT], document: Mapping[str, Any], prefix: str, warn: Callable[[str], None]
) -> _SchemaT:
    """Return a configuration object as its schema types it, or raise InvalidConfig with every problem."""
    given = _without_null(document)
    problems = [
        f"{key} {given[key]!r}: not an object"
        for key in sorted(_PER_CALL & given.keys())
        if not isinstance(given[key], dict)
    ]
    if problems:
        raise InvalidConfig.of(problems)
    lasting = {key: value for key, value in given.items() if key not in _PER_CALL and "/" not in key}
    text = json.dumps([__version__, schema.__module__, schema.__name__, prefix, lasting], sort_keys=True)
    for warning in _warnings(text, schema, lasting, prefix):
        warn(warning)
    return cast("_SchemaT", given)


def _without_null(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without the keys that are null, at any depth: Go counts them as absent."""
    return {key: _inner(value) for key, value in document.items() if value is not None}


def _inner(value: Any) -> Any:  # noqa: ANN401 - JSON from anyone
    if isinstance(value, dict):
        return _without_null(value)
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return [_inner(item) for item in value]
    return value


def _warnings(text: str, schema: type, document: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the warnings of a configuration, cached by its text; raise InvalidConfig for its problems."""
    known = _known.get(text)
    if known is not None:
        return known
    path = os.path.join(_CACHE, hashlib.sha256(text.encode()).hexdigest())
    warnings = _read_cached(path)
    if warnings is None:
        from cni_core.validation import validate

        problems, warnings = validate(schema, document, prefix)
        if problems:
            raise InvalidConfig.of(problems)
        _write_cached(path, warnings)
    if len(_known) >= _KNOWN_MOST:
        _known.clear()
    _known[text] = warnings
    return warnings


def _read_cached(path: str) -> list[str] | None:
    """Return the cached warnings of a configuration that was valid, None if there are none."""
    with contextlib.suppress(IoFailure):
        text = statefile.read_file(path)
        return None if text is None else text.splitlines()
    return None


def _write_cached(path: str, warnings: list[str]) -> None:
    """Cache the warnings of a valid configuration; if that fails, it is validated again."""
    temporary = f"{path}.{threading.get_native_id()}"
    with contextlib.suppress(OSError, IoFailure):
        statefile.make_directory(_CACHE)
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in warnings)
        os.rename(temporary, path)
