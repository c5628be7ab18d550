"""One call of a plugin as a value: the inputs that the CNI specification defines, read and checked. Pure.

The rules are those of the reference library (containernetworking/cni, pkg/skel and pkg/utils), so that a
runtime gets the same answers: the variables that a verb needs, the names that are valid, the version that
allows a verb.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cni_core.document import NAME, decode_config, section
from cni_core.errors import (
    IncompatibleVersion,
    InvalidConfig,
    InvalidEnvironment,
)
from cni_core.ifname import ifname_problem
from cni_core.result import SUPPORTED

_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
}
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_KNOWN_ARGS = frozenset({"IgnoreUnknown", "IP", "GATEWAY", "MAC", "OWNER"})


class AttachmentKey(NamedTuple):
    """The identity of an attachment: the container and its interface."""

    container_id: str
    ifname: str

    @property
    def text(self) -> str:
        """The text form, for files: neither part can contain a colon or a slash."""
        return f"{self.container_id}:{self.ifname}"

    @classmethod
    def parse(cls, text: str) -> "AttachmentKey":
        """Read the text form."""
        container_id, _colon, ifname = text.partition(":")
        return cls(container_id, ifname)


class PodId(NamedTuple):
    """The pod as Kubernetes knows it; a field is empty if the runtime does not give it."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    @property
    def label(self) -> str:
        """`namespace/name`, "" for a container that is not a pod's."""
        return f"{self.namespace}/{self.name}" if self.name else ""

    @classmethod
    def parse(cls, label: str, uid: str = "") -> "PodId":
        """Read a label; "" and a text without a name are of a container that is not a pod's."""
        namespace, _slash, name = label.partition("/")
        return cls(namespace, name, uid) if name else cls()


class Call(NamedTuple):
    """One call: the verb, its attachment, and the network's configuration (CNI spec 1.1.0, section 2).

    `sandbox_may_be_own`: the namespace may be the plugin's own (CNI_NETNS_OVERRIDE, pkg/skel).
    """

    command: str
    conf: Mapping[str, Any]
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: Mapping[str, str] = {}
    path: tuple[str, ...] = ()
    sandbox_may_be_own: bool = False

    @property
    def network(self) -> str:
        """The network's name."""
        return str(self.conf["name"])

    @property
    def cni_version(self) -> str:
        """The CNI version of the answer."""
        return version_of(self.conf)

    @property
    def key(self) -> AttachmentKey:
        """The attachment that the call is about."""
        return AttachmentKey(self.container_id, self.ifname)

    @property
    def pod(self) -> PodId:
        """The pod that the runtime names in CNI_ARGS."""
        return PodId(
            *map(_printable, (self.args.get(f"K8S_POD_{p}", "") for p in ("NAMESPACE", "NAME", "UID")))
        )


def _printable(text: str) -> str:
    """Return a text that is safe to show on a terminal: anyone who may name a pod can choose it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def read_call(environ: Mapping[str, str], read_stdin: Callable[[], bytes]) -> Call:
    """Check the environment, then read and check the configuration on stdin."""
    command = environ["CNI_COMMAND"]
    _check_environment(command, environ)
    conf = decode_config(read_stdin())
    _check_version(command, conf)
    return Call(
        command,
        conf,
        environ.get("CNI_CONTAINERID", ""),
        environ.get("CNI_NETNS", ""),
        environ.get("CNI_IFNAME", ""),
        parse_args(environ.get("CNI_ARGS", "")) if command in {"ADD", "CHECK"} else {},
        tuple(part for part in environ.get("CNI_PATH", "").split(":") if part),
        environ.get("CNI_NETNS_OVERRIDE", "").upper() in {"1", "TRUE"},
    )


def _check_environment(command: str, environ: Mapping[str, str]) -> None:
    if command not in _REQUIRED:
        raise InvalidEnvironment(f"unknown CNI_COMMAND: {command}")
    missing = [name for name in _REQUIRED[command] if not environ.get(name)]
    if missing:
        raise InvalidEnvironment(f"required env variables [{','.join(missing)}] missing")
    if "CNI_CONTAINERID" in _REQUIRED[command] and not NAME.fullmatch(environ["CNI_CONTAINERID"]):
        raise InvalidEnvironment("invalid characters in containerID", environ["CNI_CONTAINERID"])
    if "CNI_IFNAME" in _REQUIRED[command]:
        problem = ifname_problem(environ["CNI_IFNAME"])
        if problem:
            raise InvalidEnvironment(f"interface name {problem}", environ["CNI_IFNAME"])


def version_of(conf: Mapping[str, Any]) -> str:
    """Return the configuration's version; a configuration without one has the first version."""
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

    Keys that start with K8S_ are always known: every Kubernetes runtime sends them. The errors are word for
    word those of all reference plugins (containernetworking/cni, pkg/types/args.go).
    """
    args: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        key, separator, value = pair.partition("=")
        if not separator or "=" in value:
            raise InvalidEnvironment(f'ARGS: invalid pair "{pair}"')
        args[key] = value
    ignore = args.get("IgnoreUnknown", "").lower()
    if ignore not in {"", "0", "1", "true", "false"}:
        raise InvalidEnvironment(f"ARGS: IgnoreUnknown={args['IgnoreUnknown']} is not a boolean")
    unknown = [key for key in args if key not in _KNOWN_ARGS and not key.startswith("K8S_")]
    if unknown and ignore not in {"1", "true"}:
        pairs = " ".join(f'"{key}={args[key]}"' for key in unknown)
        raise InvalidEnvironment(f"ARGS: unknown args [{pairs}]")
    return args


def valid_attachments(conf: Mapping[str, Any]) -> set[AttachmentKey] | None:
    """Return the keys of the attachments that GC must keep, None if the runtime gave no list.

    `null` means that none is valid: libcni writes an empty list that way. Raises InvalidConfig for any other
    value that is not a list of attachments: a value misread as empty would release every pod of the network.
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


def _attachment_key(name: str, item: object) -> AttachmentKey:
    parts = (section(item, "containerID"), section(item, "ifname"))
    if not all(isinstance(part, str) and part for part in parts):
        raise InvalidConfig(f"{name} {item!r:.60}: not an object with containerID and ifname")
    return AttachmentKey(*parts)
