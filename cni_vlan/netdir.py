"""The networks that are configured on a node, and the problems of their files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cni_core import netfile
from cni_core.call import Call
from cni_core.errors import CniError, InvalidConfig
from cni_vlan import config
from cni_vlan.attachment import Attachment

PLUGIN = "cni-vlan"

Parser = Callable[[Call, Callable[[str], None]], object]
Parsers = Mapping[str, Parser]


class NetworkFile(NamedTuple):
    """A file, the attachments that its plugins describe, its problems and its warnings."""

    path: str
    attachments: tuple[Attachment, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_directory(directory: str, ipam: Parsers) -> Iterator[NetworkFile]:
    """Yield the files in a directory that contain a plugin of ours or cannot be read."""
    for path in netfile.files(directory):
        found = read(path, ipam)
        if found.problems or found.attachments:
            yield found


def read(path: str, ipam: Parsers) -> NetworkFile:
    """Read and check a file; one without a plugin of ours has neither attachments nor problems."""
    warnings: list[str] = []
    try:
        ours = [conf for conf in netfile.read_plugins(path) if conf.get("type") == PLUGIN]
    except CniError as error:
        return NetworkFile(path, problems=(error.msg,))
    problems = [text for conf in ours for text in _problems(conf, ipam, warnings)]
    attachments = () if problems else [config.parse(Call("ADD", conf), _ignore) for conf in ours]
    return NetworkFile(path, tuple(attachments), tuple(problems), tuple(warnings))


def _ignore(_warning: str) -> None:
    """Ignore a warning, which was collected before."""


def _problems(conf: dict[str, Any], ipam: Parsers, warnings: list[str]) -> Iterator[str]:
    for parse in (config.parse, *_ipam_parser(conf, ipam)):
        try:
            parse(Call("ADD", conf), warnings.append)
        except CniError as error:
            yield from error.problems if isinstance(error, InvalidConfig) else (error.msg,)


def _ipam_parser(conf: Mapping[str, object], ipam: Parsers) -> Sequence[Parser]:
    """Return the parser of the IPAM section, if the IPAM plugin is ours."""
    section = conf.get("ipam")
    kind = section.get("type") if isinstance(section, dict) else None
    return [ipam[kind]] if isinstance(kind, str) and kind in ipam else []
