"""The one place that knows the engines: a configuration in, a connected engine out, once for each process."""

import threading

from cni_ipam.cluster import UNKNOWN, EngineConf
from cni_ipam.engine import Engine, EngineRefused

_open: dict[EngineConf, Engine] = {}
_guard = threading.Lock()


def open_engine(conf: EngineConf) -> Engine:
    """Return the engine of a configuration; nothing is asked, and no file read, before its first use."""
    with _guard:
        engine = _open.get(conf)
        if engine is None:
            engine = _open[conf] = _engine(conf)
        return engine


def _engine(conf: EngineConf) -> Engine:
    if conf == UNKNOWN:
        raise EngineRefused(
            "reach the cluster's store: the record of ipam.cluster is lost", "an ADD brings it"
        )
    if conf.store == "kubernetes":
        from cni_ipam.kubernetes import Kubernetes

        return Kubernetes(conf)
    from cni_ipam.etcd import Etcd

    return Etcd(conf)
