"""The command line of the agent."""

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator

import click

from cni_agent import health, install, systemd
from cni_agent.cluster_metrics import ClusterMetrics
from cni_agent.cluster_tasks import CONTACT_S, ClusterTasks
from cni_agent.exporting import Exporting
from cni_agent.listener import Listener, listen
from cni_agent.log import Log
from cni_agent.memory import share_one_arena, use_huge_pages
from cni_agent.metrics import Metrics
from cni_agent.preload import preloaded
from cni_agent.server import Server
from cni_agent.tasks import running
from cni_core.errors import CniError
from cni_core.run_directory import AGENT_SOCKET, METRICS_SOCKET
from cni_ipam.identity import identity
from cni_ipam.place import DATA_DIR
from cni_ipam.reclaim import GRACE_S
from cni_net import sysctl
from cni_net.rtnl import open_rtnl
from cni_vlan import exporter
from cni_vlan.ledger import Ledger


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cni-vlan")
def tool() -> None:
    """Keep cni-vlan and cni-ipam warm, so that a pod never waits for them to start."""


@tool.command("serve")
@click.option(
    "--socket",
    "path",
    default=AGENT_SOCKET,
    show_default=True,
    help="Socket on which the launcher finds the agent.",
)
@click.option(
    "--metrics",
    "metrics_at",
    default=METRICS_SOCKET,
    show_default=True,
    help="Socket for metrics, or a port of the loopback address.",
)
@click.option("--proc-sys", default="/proc/sys", show_default=True, help="A writable mount of /proc/sys.")
@click.option("--log/--no-log", "logs_verbs", default=True, help="Write a line of JSON per verb to stderr.")
@click.option(
    "--node", default="", envvar="NODE_NAME", help="Name of this node in a cluster [default: the host name]."
)
@click.option(
    "--contact",
    type=click.FloatRange(min=1),
    default=CONTACT_S,
    show_default=True,
    help="Seconds between the requests of an idle node to a cluster's store.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE_S,
    show_default=True,
    help="Seconds to wait, once a node is proven dead, before its blocks are taken.",
)
def serve_command(  # noqa: PLR0913 - an option each
    path: str, metrics_at: str, proc_sys: str, node: str, contact: float, grace: float, *, logs_verbs: bool
) -> None:
    """Serve invocations until SIGTERM, then finish those under way."""
    share_one_arena()
    _allow_descriptors()
    sysctl.use_root(proc_sys)
    loaders = preloaded()
    stopping = _on_signals()
    activated = systemd.activated_socket()
    listener = Listener(activated) if activated else listen(path)
    log, metrics = Log(sys.stderr.fileno()), Metrics()
    if node:
        _name_this_node(node, log)
    cluster = ClusterTasks(log.fault, contact, grace)
    metrics.registry.register(ClusterMetrics(cluster.counts))
    subscribers = (metrics.observe, log.write) if logs_verbs else (metrics.observe,)
    server = Server(listener, loaders, subscribers, log.fault, cluster.wake)
    with (
        metrics.served(metrics_at, listener.path),
        running("claims", cluster),
        running("routes", Exporting(log.fault)),
    ):
        gc.collect()
        gc.freeze()  # loaded objects stay: collections need not look at them
        use_huge_pages()
        systemd.notify("READY=1")
        server.serve(stopping)
        systemd.notify("STOPPING=1")


def _name_this_node(name: str, log: Log) -> None:
    """Record the name for the plugins; pods that share no pool need none."""
    try:
        identity(DATA_DIR, name)
    except CniError as error:
        log.fault(f"{error.msg}; {error.details}")


@tool.command("health")
@click.option("--socket", "path", default=AGENT_SOCKET, show_default=True, help="Socket of the agent.")
def health_command(path: str) -> None:
    """Check that the agent answers.

    Fails if there is no answer within a second.
    """
    wrong = health.problem(path)
    if wrong:
        raise click.ClickException(wrong)
    click.echo("ok")


def _allow_descriptors() -> None:
    """Raise the limit of descriptors to its maximum: a running verb needs eight; select(2) is not used."""
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _on_signals() -> socket.socket:
    """Return a socket that becomes readable once a signal has asked to stop.

    The C handler of the signal writes to it. A handler in Python would run only when poll(2) ends, and a
    signal just before that call does not end it.
    """
    waiting, waking = socket.socketpair()
    waking.setblocking(False)  # noqa: FBT003 - its only parameter
    signal.set_wakeup_fd(waking.detach())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: None)
    return waiting


_bin_dir = click.option(
    "--bin-dir", default="/opt/cni/bin", show_default=True, help="Directory of the runtime's plugins."
)
_prefix = click.option("--prefix", default="/", help="Mount point of the host's root.")
_source = click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False),
    help="Bundle to install [default: that of this program].",
)


@tool.command("install")
@_bin_dir
@click.option(
    "--conf-dir", default="/etc/cni/net.d", show_default=True, help="Directory of the runtime's networks."
)
@click.option(
    "--conf",
    "confs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="A network configuration to install.",
)
@_prefix
@_source
def install_command(
    bin_dir: str, conf_dir: str, confs: tuple[str, ...], prefix: str, source: str | None
) -> None:
    """Install or upgrade the plugins, then the networks.

    Running pods are not affected.
    """
    with _failures():
        done = install.install(source or _own_bundle(), confs, install.Places(prefix, bin_dir, conf_dir))
    for path in done:
        click.echo(f"installed {path}")


@tool.command("uninstall")
@_bin_dir
@_prefix
@_source
def uninstall_command(bin_dir: str, prefix: str, source: str | None) -> None:
    """Remove the plugins and the exported routes.

    Pods keep their interfaces. Networks and leases stay; remove them by hand.
    """
    with _failures():
        done = install.uninstall(source or _own_bundle(), install.Places(prefix, bin_dir, ""))
        with open_rtnl() as rtnl:
            exporter.withdraw_all(rtnl, Ledger())
    for path in done:
        click.echo(f"removed {path}")


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turn a CniError into an error message of the tool."""
    try:
        yield
    except CniError as error:
        raise click.ClickException(error.msg) from error


def _own_bundle() -> str:
    """Return the directory of this program."""
    return os.path.dirname(os.path.realpath(sys.executable))
