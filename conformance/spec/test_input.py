"""What a caller can get wrong in the environment and on stdin (spec 1.1.0, sections 1, 2 and 5)."""

import json

import pytest

from conformance.spec import judge
from conformance.spec.subject import Subject
from tests.lab.world import Host, Json, Pod, Reply

NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
}
BAD_IDS = ["a/b", "..", "-x", "a b", "x\n", "/"]
BAD_NAMES = ["eth/0", "eth:0", "eth 0", "a" * 16, ".", "..", "eth\t0"]
NOT_A_CONFIGURATION = {
    "empty": "", "cut off": '{"cniVersion": "1.0.0", "na', "text": "hello", "null": "null", "list": "[]",
    "number": "1", "string": '"x"', "two documents": "{} {}", "deep": "[" * 100_000,
}  # fmt: skip


class Caller:
    """Executes the plugin for a pod with an environment that a test has spoilt."""

    def __init__(self, host: Host, plugin: str, pod: Pod) -> None:
        self.host = host
        self.plugin = plugin
        self.pod = pod

    def __call__(self, verb: str, stdin: str | Json, *leave_out: str, **wrong: str) -> Reply:
        unset = [word for name in leave_out for word in ("-u", name)]
        command = ["env", *unset, self.host.find(self.plugin)]
        text = stdin if isinstance(stdin, str) else json.dumps({"cniVersion": "1.0.0", **stdin})
        environment = {"CNI_COMMAND": verb, **self.attachment(), **wrong}
        finished = self.host.run(*command, stdin=text, environment=environment, check=False)
        return Reply(finished.returncode, finished.stdout, finished.stderr)

    def attachment(self) -> dict[str, str]:
        return {
            "CNI_CONTAINERID": self.pod.name,
            "CNI_NETNS": self.pod.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.host.cni_path,
        }


@pytest.fixture
def call(host: Host, subject: Subject, pod: Pod) -> Caller:
    return Caller(host, subject.plugin, pod)


@pytest.mark.parametrize(("verb", "name"), [(verb, name) for verb, names in NEEDED.items() for name in names])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_variable_is_needed(
    verb: str, name: str, how: str, version_with_check: str, conf: Json, call: Caller
) -> None:
    previous = {"cniVersion": version_with_check}
    network = {**conf, "cniVersion": version_with_check, "prevResult": previous}

    reply = call(verb, network, name) if how == "missing" else call(verb, network, **{name: ""})

    judge.refused(reply, [judge.ENVIRONMENT])
    judge.untouched(call.pod)


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("wrong", BAD_IDS)
def test_a_container_id_is_letters_digits_and_a_few_more(
    verb: str, wrong: str, conf: Json, call: Caller
) -> None:
    judge.refused(call(verb, conf, CNI_CONTAINERID=wrong), [judge.ENVIRONMENT])
    judge.untouched(call.pod)


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("wrong", BAD_NAMES)
def test_an_interface_name_is_one_of_linux(verb: str, wrong: str, conf: Json, call: Caller) -> None:
    judge.refused(call(verb, conf, CNI_IFNAME=wrong), [judge.ENVIRONMENT])
    judge.untouched(call.pod)


@pytest.mark.parametrize("verb", ["add", "Add", "FOO", "ADD ", "DELETE"])
def test_an_unknown_verb_is_refused(verb: str, conf: Json, call: Caller) -> None:
    judge.refused(call(verb, conf), [judge.ENVIRONMENT])
    judge.untouched(call.pod)


@pytest.mark.parametrize("wrong", ["/run/netns/absent", "/", "/etc/hostname", "relative", "\\0"])
def test_a_sandbox_that_is_none_is_refused(wrong: str, conf: Json, call: Caller) -> None:
    judge.refused(call("ADD", conf, CNI_NETNS=wrong))


@pytest.mark.parametrize("arguments", ["x", "=", "A=1;B", ";;;=;"])
def test_malformed_arguments_are_refused(arguments: str, conf: Json, pod: Pod) -> None:
    judge.refused(pod.add({**conf, "cniVersion": "1.0.0"}, CNI_ARGS=arguments))
    judge.untouched(pod)


def test_unknown_arguments_may_be_ignored(conf: Json, pod: Pod) -> None:
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"

    judge.accepted(pod.add({**conf, "cniVersion": "1.0.0"}, CNI_ARGS=arguments))


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("stdin", NOT_A_CONFIGURATION.values(), ids=NOT_A_CONFIGURATION.keys())
def test_stdin_must_be_a_configuration(verb: str, stdin: str, call: Caller) -> None:
    judge.refused(call(verb, stdin), [judge.DECODING, judge.CONFIGURATION])
    judge.untouched(call.pod)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", " ", None, 1, {}])
def test_a_network_needs_a_name(name: object, conf: Json, pod: Pod) -> None:
    reply = pod.add({**conf, "cniVersion": "1.0.0", "name": name})

    judge.refused(reply, [judge.DECODING, judge.CONFIGURATION])
    judge.untouched(pod)


@pytest.mark.parametrize("key", ["ipam", "dns", "runtimeConfig", "args", "prevResult"])
@pytest.mark.parametrize("wrong", [1, "x", [1], True])
def test_a_key_of_another_type_is_refused(key: str, wrong: object, conf: Json, pod: Pod) -> None:
    reply = pod.add({**conf, "cniVersion": "1.0.0", key: wrong})

    judge.refused(reply)
    judge.untouched(pod)


def test_unknown_keys_are_no_error(version: str, conf: Json, pod: Pod) -> None:
    extras = {"x-vendor": {"a": [1, None, "ü"]}, "capabilities": {"portMappings": True}}

    judge.accepted(pod.add({**conf, "cniVersion": version, **extras}))


def test_a_configuration_of_a_mebibyte(conf: Json, pod: Pod) -> None:
    judge.accepted(pod.add({**conf, "cniVersion": "1.0.0", "x-large": "x" * (1 << 20)}))


def test_an_ipam_plugin_that_is_not_there(version: str, conf: Json, pod: Pod) -> None:
    reply = pod.add({**conf, "cniVersion": version, "ipam": {"type": "no-such-ipam"}})

    judge.refused(reply)
    judge.untouched(pod)


def test_no_environment_but_the_specification_s(version: str, conf: Json, call: Caller) -> None:
    host = call.host
    kept = {name: value for name, value in host.variables.items() if name.startswith("CNI_")}
    variables = {**kept, "CNI_COMMAND": "ADD", **call.attachment()}
    command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), host.find(call.plugin)]
    stdin = json.dumps({**conf, "cniVersion": version})

    finished = host.run(
        "sh", "-c", 'cd / && umask 077 && exec "$@"', "sh", *command, stdin=stdin, check=False
    )

    judge.accepted(Reply(finished.returncode, finished.stdout, finished.stderr))
