"""One call of a plugin as a value: the CNI_* environment and stdin, read once and checked.

The rules are those of the reference library (containernetworking/cni, pkg/skel and pkg/utils), so that a
runtime meets the same answers: which variables a verb needs, which names are valid, which version allows it.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from cni_core.errors import (
    DecodingFailure,
    IncompatibleVersion,
    InvalidConfig,
    InvalidEnvironment,
)
from cni_core.record import Record
from cni_core.result import SUPPORTED

VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
}
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_KNOWN_ARGS = frozenset({"IgnoreUnknown", "IP", "GATEWAY", "MAC"})
# How JSON spells NUL and surrogates; a pair of those is one character, and stays it.
_NO_TEXT = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
IFNAME_BYTES = 15


class Later(Protocol):
    """What runs once the runtime has its answer, or is closed instead."""

    def __call__(self) -> None:
        """Run."""

    def close(self) -> None:
        """Let go of what it holds."""


class Invocation(NamedTuple):
    """One call: the verb, whom it is for, and the network's configuration.

    `netns_fd` is an open descriptor of the sandbox where the caller has one already. What is put on
    `after_reply` runs once the runtime has its answer.
    """

    command: str
    container_id: str
    netns: str
    ifname: str
    args: Mapping[str, str]
    path: tuple[str, ...]
    conf: Mapping[str, Any]
    warn: Callable[[str], None]
    environ: Mapping[str, str]
    builtins: "Mapping[str, Callable[[], Any]]"
    after_reply: "list[Later]"
    record: Record
    netns_fd: int | None = None

    @property
    def network(self) -> str:
        """The network's name."""
        return str(self.conf["name"])

    @property
    def cni_version(self) -> str:
        """The version in which to answer."""
        return version_of(self.conf)

    @property
    def netns_override(self) -> bool:
        """Whether the sandbox may be the plugin's own namespace (containernetworking/cni, pkg/skel)."""
        return self.environ.get("CNI_NETNS_OVERRIDE", "").upper() in {"1", "TRUE"}

    @property
    def key(self) -> str:
        """The attachment's key in files: neither part can hold a colon or a slash."""
        return f"{self.container_id}:{self.ifname}"


def read_invocation(
    environ: Mapping[str, str],
    stdin: Callable[[], bytes],
    warn: Callable[[str], None],
    builtins: "Mapping[str, Callable[[], Any]]",
) -> Invocation:
    """Check the environment, then read and check the configuration on stdin."""
    command = environ["CNI_COMMAND"]
    _check_environment(command, environ)
    conf = decode_config(stdin())
    _check_version(command, conf)
    return Invocation(
        command,
        environ.get("CNI_CONTAINERID", ""),
        environ.get("CNI_NETNS", ""),
        environ.get("CNI_IFNAME", ""),
        parse_args(environ.get("CNI_ARGS", "")) if command in {"ADD", "CHECK"} else {},
        tuple(part for part in environ.get("CNI_PATH", "").split(":") if part),
        conf,
        warn,
        environ,
        builtins,
        [],
        Record(),
    )


def _check_environment(command: str, environ: Mapping[str, str]) -> None:
    if command not in _REQUIRED:
        raise InvalidEnvironment(f"unknown CNI_COMMAND: {command}")
    missing = [name for name in _REQUIRED[command] if not environ.get(name)]
    if missing:
        raise InvalidEnvironment(f"required env variables [{','.join(missing)}] missing")
    if "CNI_CONTAINERID" in _REQUIRED[command] and not _NAME.fullmatch(environ["CNI_CONTAINERID"]):
        raise InvalidEnvironment("invalid characters in containerID", environ["CNI_CONTAINERID"])
    if "CNI_IFNAME" in _REQUIRED[command]:
        problem = ifname_problem(environ["CNI_IFNAME"])
        if problem:
            raise InvalidEnvironment(f"interface name {problem}", environ["CNI_IFNAME"])


def ifname_problem(name: str) -> str:
    """Say what the kernel would not accept in an interface name; "" if nothing."""
    if not name:
        return "is empty"
    if not is_text(name):
        return "is not UTF-8"
    if len(name.encode()) > IFNAME_BYTES:
        return f"is too long: at most {IFNAME_BYTES} bytes"
    if name in {".", ".."}:
        return "is . or .."
    if any(c in "/:" or c.isspace() for c in name):
        return "contains / or : or whitespace characters"
    if (
        "%" in name
    ):  # dev_alloc_name() of the kernel takes net%d for a pattern, and a lone % is as good as one
        return "contains %"
    return ""


def is_text(value: str) -> bool:
    """Tell whether a string can be handed to the kernel and to files: without NUL and lone surrogates."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def decode_config(stdin: bytes) -> dict[str, Any]:
    """Return the network configuration, with a valid name, or raise the error for what is wrong."""
    try:
        conf = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        raise DecodingFailure(f"decode network configuration on stdin: {error}") from error
    if not isinstance(conf, dict):
        raise DecodingFailure("decode network configuration on stdin: not a JSON object")
    if _NO_TEXT.search(stdin):
        conf = {_as_text(key): _as_text(value) for key, value in conf.items()}
    name = conf.get("name")
    if name is None or name == "":
        raise InvalidConfig("missing network name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidConfig("invalid characters found in network name", str(name))
    return conf


def _as_text(value: Any) -> Any:  # noqa: ANN401 - JSON from anyone
    """Return a document with U+FFFD in place of what no file or link can be named by: NUL, lone surrogates.

    Replaced, not refused: a DEL of such a configuration has to succeed, and an ADD is told by the name.
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


def version_of(conf: Mapping[str, Any]) -> str:
    """Return the configuration's version; one without it is of the first version."""
    version = conf.get("cniVersion") or SUPPORTED[0]
    return version if isinstance(version, str) else repr(version)


def _check_version(command: str, conf: Mapping[str, Any]) -> None:
    version = version_of(conf)
    if version not in SUPPORTED:
        supported = " ".join(SUPPORTED)
        raise IncompatibleVersion(
            "incompatible CNI versions", f"config is {version!r}, plugin supports {supported}"
        )
    since = _SINCE.get(command)
    if since and SUPPORTED.index(version) < SUPPORTED.index(since):
        raise IncompatibleVersion(
            f"config version does not allow {command}", f"config is {version}, needs {since}"
        )


def parse_args(text: str) -> dict[str, str]:
    """Read CNI_ARGS, `K=V;K=V`; an unknown key is an error unless IgnoreUnknown is true.

    Keys that start with K8S_ are always known: every Kubernetes runtime sends them.
    """
    args: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        key, separator, value = pair.partition("=")
        if not separator or "=" in value:
            raise InvalidEnvironment(f"CNI_ARGS: invalid pair {pair!r}")
        args[key] = value
    ignore = args.get("IgnoreUnknown", "").lower()
    if ignore not in {"", "0", "1", "true", "false"}:
        raise InvalidEnvironment(f"CNI_ARGS: IgnoreUnknown={args['IgnoreUnknown']} is no boolean")
    unknown = [key for key in args if key not in _KNOWN_ARGS and not key.startswith("K8S_")]
    if unknown and ignore not in {"1", "true"}:
        raise InvalidEnvironment(f"CNI_ARGS: unknown keys {', '.join(unknown)}")
    return args


def section(document: object, *keys: str) -> Any:  # noqa: ANN401 - JSON from anyone
    """Walk into nested JSON objects; None where a key is absent or something is no object."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def valid_attachments(conf: Mapping[str, Any]) -> set[str] | None:
    """Return the keys of the attachments that GC must keep, None if the runtime gave no list.

    `null` says that none is valid: libcni writes an empty list so. Raises InvalidConfig for anything that is
    no list of attachments: what is misread as empty would release every pod of the network.
    """
    name = "cni.dev/valid-attachments"
    if name not in conf:
        return None
    items = conf[name]
    if items is None:
        return set()
    if not isinstance(items, list):
        raise InvalidConfig(f"{name} {items!r:.60}: not a list")
    return {_attachment_key(name, item) for item in items}


def _attachment_key(name: str, item: object) -> str:
    parts = (section(item, "containerID"), section(item, "ifname"))
    if not all(isinstance(part, str) and part for part in parts):
        raise InvalidConfig(f"{name} {item!r:.60}: not an object with containerID and ifname")
    return ":".join(parts)
