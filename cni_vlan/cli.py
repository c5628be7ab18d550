"""What operators use cni-vlan for."""

from collections.abc import Callable, Mapping

import click

from cni_core.errors import CniError
from cni_core.invocation import Invocation
from cni_core.netfile import asked_by_hand, read_plugins
from cni_vlan import config

Parsers = Mapping[str, Callable[[Invocation], object]]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cni-vlan")
def tool() -> None:
    """Look after networks of macvlan and ipvlan interfaces on 802.1q parents.

    As a CNI plugin it is run by a container runtime, which sets CNI_COMMAND.
    """


@tool.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.pass_obj
def validate(ipam: Parsers, files: tuple[str, ...]) -> None:
    """Say everything that is wrong with the network configurations in FILES (.conf or .conflist)."""
    wrong = 0
    for file in files:
        warnings: list[str] = []
        problems = _problems(file, ipam, warnings)
        for text in problems:
            click.echo(f"{file}: {text}", err=True)
        for text in warnings:
            click.echo(f"{file}: warning: {text}", err=True)
        if not problems:
            click.echo(f"{file}: valid")
        wrong += bool(problems)
    if wrong:
        raise click.ClickException(f"{wrong} of {len(files)} files are not valid")


def _problems(file: str, ipam: Parsers, warnings: list[str]) -> list[str]:
    try:
        ours = [conf for conf in read_plugins(file) if conf.get("type") == "cni-vlan"]
        if not ours:
            return ["no plugin in it is cni-vlan"]
        found = []
        for conf in ours:
            parsers = [config.parse, *_ipam_parser(conf, ipam)]
            found += [text for parse in parsers for text in _problems_of(parse, conf, warnings)]
    except CniError as error:
        return [error.msg]
    return found


def _ipam_parser(conf: Mapping[str, object], ipam: Parsers) -> list[Callable[[Invocation], object]]:
    """Return what parses the IPAM part, if it is ours to judge."""
    section = conf.get("ipam")
    kind = section.get("type") if isinstance(section, dict) else None
    return [ipam[kind]] if isinstance(kind, str) and kind in ipam else []


def _problems_of(
    parse: Callable[[Invocation], object], conf: dict[str, object], warnings: list[str]
) -> list[str]:
    try:
        parse(asked_by_hand(conf, warnings))
    except CniError as error:
        return error.msg.removeprefix("invalid network configuration: ").split("; ")
    return []
