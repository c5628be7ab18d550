"""The pydantic base of both plugins' configuration models: all problems at once, unknown keys only warned of.

Imported by the config modules alone; DEL and GC never come here, for they must work with a broken
configuration.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError

from cni_core.errors import InvalidConfig

# What the spec and libcni put beside a plugin's own keys (CNI spec 1.1.0, section 1).
_STANDARD = frozenset(
    {"args", "capabilities", "cniVersion", "cniVersions", "dns", "ipMasq", "ipam", "name", "plugins",
     "prevResult", "runtimeConfig", "type"}
)  # fmt: skip


class Conf(BaseModel):
    """A model whose Python names are snake_case and whose JSON names are aliases."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=False, strict=True)


_ConfT = TypeVar("_ConfT", bound=Conf)


def load(
    model: type[_ConfT], document: Mapping[str, Any], prefix: str, warn: Callable[[str], None]
) -> _ConfT:
    """Read a configuration object, or raise InvalidConfig with every problem in it."""
    try:
        conf = model.model_validate({k: v for k, v in document.items() if v is not None})
    except ValidationError as error:
        raise InvalidConfig(problems_text(_problems(error, prefix))) from error
    for key in _unknown(conf, prefix):
        warn(key)
    return conf


def problems_text(problems: list[str]) -> str:
    """Return the message for a list of problems."""
    return "invalid network configuration: " + "; ".join(problems)


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
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a line in a log


def _unknown(conf: BaseModel, prefix: str) -> list[str]:
    """Describe unknown keys, nested ones too."""
    known = _known_keys(conf)
    found = []
    for key in conf.model_extra or {}:
        if key in _STANDARD or "." in key:  # keys with a dot are the runtime's, as cni.dev/...
            continue
        near = difflib.get_close_matches(key, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        found.append(f"unknown key {prefix}{key} is ignored{hint}")
    for name in type(conf).model_fields:
        value = getattr(conf, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                found += _unknown(item, f"{prefix}{name}.")
    return found


def _known_keys(conf: BaseModel) -> set[str]:
    """Return the JSON keys of a model."""
    keys: set[str] = set()
    for name, field in type(conf).model_fields.items():
        alias = field.validation_alias or name
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        keys |= {choice for choice in choices if isinstance(choice, str)}
    return keys
