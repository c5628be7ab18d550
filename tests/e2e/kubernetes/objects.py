"""The objects that the tests apply."""

from typing import Any

from tests.e2e.kubernetes.control_plane import Json
from tests.e2e.kubernetes.programs import BUSYBOX
from tests.e2e.kubernetes.topology import Place

HTTP_GET = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2, "timeoutSeconds": 5}


def pod(name: str, command: list[str], on: Place | None = None, **container: Any) -> Json:  # noqa: ANN401 - JSON
    """Return a pod of one busybox, on a certain node if one is named."""
    running = {"name": "main", "image": BUSYBOX, "imagePullPolicy": "Never", "command": command, **container}
    spec: Json = {"containers": [running], "terminationGracePeriodSeconds": 1, "enableServiceLinks": False}
    if on:
        spec["nodeName"] = on.name
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    }


def serving(name: str, on: Place | None = None, **container: Any) -> Json:  # noqa: ANN401 - JSON
    """Return a pod that says its name to whoever asks on port 8080."""
    page = "mkdir -p /tmp/www; hostname > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www"
    return pod(name, ["sh", "-c", page], on, **container)


def deployment(name: str, replicas: int, template: Json) -> Json:
    """Return a deployment of such pods, as many on each node unless it names one."""
    labels = {"matchLabels": {"app": name}}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": labels,
    }
    inner = {"metadata": {"labels": {"app": name}}, "spec": template["spec"]}
    if "nodeName" not in inner["spec"]:
        inner["spec"] = {**inner["spec"], "topologySpreadConstraints": [spread]}
    spec = {"replicas": replicas, "selector": labels, "template": inner}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def stateful_set(name: str, replicas: int, template: Json) -> Json:
    made = deployment(name, replicas, template)
    return {**made, "kind": "StatefulSet", "spec": {**made["spec"], "serviceName": name}}


def service(name: str, app: str, **spec: Any) -> Json:  # noqa: ANN401 - JSON
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }
