"""Validating a configuration object against its TypedDict. The only module that imports pydantic."""

import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

_LINE = 60
# The keys that the spec and libcni put beside a plugin's own (CNI spec 1.1.0, section 1).
_STANDARD = frozenset(
    {"capabilities", "cniVersion", "cniVersions", "dns", "ipMasq", "ipam", "name", "plugins", "type"}
)


def validate(schema: type, document: Mapping[str, Any], prefix: str) -> tuple[list[str], list[str]]:
    """Return the problems of a configuration object, and warnings about keys that nobody reads."""
    try:
        _adapter(schema).validate_python(document, strict=True)
    except ValidationError as error:
        return _problems(error, prefix), []
    return [], list(_unknown(schema, document, prefix))


@functools.cache  # the agent meets many configurations of two schemas
def _adapter(schema: type) -> TypeAdapter[Any]:
    return TypeAdapter(_for_pydantic(schema))


def _for_pydantic(schema: Any) -> Any:  # noqa: ANN401 - a type expression
    """Return a schema with its TypedDicts made by typing_extensions: pydantic takes no others before 3.12.

    The schemas themselves are plain, since typing_extensions costs the hot path 5 ms.
    """
    if is_typeddict(schema):
        optional = schema.__optional_keys__
        fields = {
            key: NotRequired[_for_pydantic(hint)] if key in optional else _for_pydantic(hint)
            for key, hint in get_type_hints(schema).items()
        }
        return TypedDict(schema.__name__, fields)  # type: ignore[operator] # made at run time
    if get_origin(schema) is list:
        return list[_for_pydantic(get_args(schema)[0])]  # type: ignore[misc] # made at run time
    return schema


def _problems(error: ValidationError, prefix: str) -> list[str]:
    found = []
    for item in error.errors(include_url=False, include_context=False):
        path = prefix + ".".join(str(part) for part in item["loc"])
        message = item["msg"][:1].lower() + item["msg"][1:]
        given = "" if item["type"] == "missing" else f" {_shown(item['input'])}"
        found.append(f"{path}{given}: {message}")
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LINE else text[: _LINE - 3] + "..."


def _unknown(schema: Any, value: object, prefix: str) -> Iterator[str]:  # noqa: ANN401 - a type expression
    """Yield a warning for each key that a schema does not know, including nested keys."""
    if is_typeddict(schema) and isinstance(value, dict):
        hints = get_type_hints(schema)
        for key, item in value.items():
            if key in hints:
                yield from _unknown(hints[key], item, f"{prefix}{key}.")
            elif key not in _STANDARD:
                near = difflib.get_close_matches(key, hints, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield f"unknown key {prefix}{key} is ignored{hint}"
    elif isinstance(value, list):
        for inner in filter(_has_keys, get_args(schema)):  # a list of texts may have 75,000
            for at, item in enumerate(value):
                yield from _unknown(inner, item, f"{prefix}{at}.")


def _has_keys(schema: Any) -> bool:  # noqa: ANN401 - a type expression
    return is_typeddict(schema) or bool(get_args(schema))
