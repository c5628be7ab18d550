"""The rules of who imports what, and what an import costs."""

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = sysconfig.get_path("purelib")
PACKAGES = ("cni_core", "cni_net", "cni_vlan", "cni_ipam", "cni_agent")
BELOW = {
    "cni_core": set(),
    "cni_net": {"cni_core"},
    "cni_vlan": {"cni_core", "cni_net"},
    "cni_ipam": {"cni_core"},
    "cni_agent": {"cni_core", "cni_net", "cni_vlan", "cni_ipam"},
}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).glob("*.py"))
PURE = {
    "cni_core.call", "cni_core.cidr", "cni_core.document", "cni_core.errors", "cni_core.family",
    "cni_core.ifname", "cni_core.result", "cni_core.result_json", "cni_net.attributes", "cni_net.observed",
    "cni_net.operations", "cni_net.frames", "cni_vlan.attachment", "cni_vlan.convert", "cni_vlan.exports",
    "cni_vlan.guards", "cni_vlan.host_access", "cni_vlan.parent_decision", "cni_vlan.parents",
    "cni_vlan.plan", "cni_vlan.records", "cni_vlan.verify", "cni_ipam.allocator", "cni_ipam.blocks",
    "cni_ipam.cluster", "cni_ipam.hostlocal_words", "cni_ipam.place", "cni_ipam.ranges", "cni_ipam.reclaim",
    "cni_ipam.whereabouts",
}  # fmt: skip
# They take values whose modules also know the file that these are read from.
PURE_FUNCTIONS = {"cni_agent.strangers", "cni_ipam.agreement", "cni_ipam.objects", "cni_ipam.upkeep"}
IMPURE = {"os", "socket", "subprocess", "pyroute2", "pydantic", "filelock", "fcntl", "ctypes", "time"}
HOMES = {
    "pyroute2": {"cni_net.codecs"},
    "pydantic": {"cni_core.validation"},
    "filelock": {"cni_core.lock"},
    "ctypes": {"cni_net.netns", "cni_agent.memory"},
    "subprocess": {"cni_core.delegate", "cni_vlan.daemons"},
    "click": {"cni_vlan.cli", "cni_ipam.cli", "cni_ipam.cluster_cli", "cni_agent.cli"},
    "prometheus_client": {"cni_agent.metrics", "cni_agent.cluster_metrics"},
    "urllib3": {"cni_ipam.http"},
}


def name_of(path: Path) -> str:
    return f"{path.parent.name}.{path.stem}"


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_packages_depend_in_one_direction(path: Path) -> None:
    package = path.parent.name
    allowed = BELOW[package] | {package}
    if name_of(path) == "cni_vlan.__main__":
        allowed.add("cni_ipam")  # the entry point wires the built-in delegate

    ours = {name.split(".")[0] for name in imports_of(path)} & set(PACKAGES)

    assert ours <= allowed


def closure(name: str) -> set[str]:
    """Every module that one needs, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        path = ROOT / f"{waiting.pop().replace('.', '/')}.py"
        new = (imports_of(path) if path.exists() else set()) - found
        found |= new
        waiting += [imported for imported in new if imported.split(".")[0] in PACKAGES]
    return found


def test_imports_have_no_circle() -> None:
    names = {name_of(path) for path in MODULES}

    assert [name for name in sorted(names) if name in closure(name)] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_has_one_home(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports_of(path)}

    strays = {library for library, homes in HOMES.items() if library in tops and name_of(path) not in homes}

    assert strays == set()


@pytest.mark.parametrize("name", sorted(PURE))
def test_deciding_modules_touch_nothing(name: str) -> None:
    assert {imported.split(".")[0] for imported in closure(name)} & IMPURE == set()


def loaded_by(code: str) -> set[str]:
    script = f"import sys; sys.path += {[str(ROOT), LIBRARIES]!r}; {code}; print(' '.join(sys.modules))"
    shown = subprocess.run([sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in shown.stdout.split()}


@pytest.mark.parametrize("plugin", ["cni_vlan", "cni_ipam"])
def test_entry_points_load_nothing_heavy(plugin: str) -> None:
    heavy = {
        "pydantic",
        "pyroute2",
        "filelock",
        "subprocess",
        "asyncio",
        "logging",
        "ipaddress",
        "typing_extensions",
    }

    assert loaded_by(f"import {plugin}.__main__") & heavy == set()


@pytest.mark.parametrize("plugin", ["cni_vlan", "cni_ipam"])
def test_verbs_load_no_pydantic_but_to_validate(plugin: str) -> None:
    assert "pydantic" not in loaded_by(f"import {plugin}.commands, {plugin}.config")


def test_cni_ipam_never_loads_pyroute2() -> None:
    assert "pyroute2" not in loaded_by("import cni_ipam.commands, cni_ipam.config")


def test_only_the_message_codecs_of_pyroute2_are_loaded() -> None:
    script = "import cni_net.rtnl, sys; print('asyncio' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert shown.stdout == "False\n"


@pytest.mark.parametrize("name", sorted(PURE_FUNCTIONS))
def test_pure_functions_touch_nothing_themselves(name: str) -> None:
    own = imports_of(ROOT / f"{name.replace('.', '/')}.py")

    assert {imported.split(".")[0] for imported in own} & IMPURE == set()
    assert own & {"cni_core.boot", "cni_core.statefile", "cni_core.lock"} == set()


@pytest.mark.parametrize(("words", "held"), [(" Pure.", PURE), (" Pure functions.", PURE_FUNCTIONS)])
def test_a_module_that_says_so_is_held_to_it(words: str, held: set[str]) -> None:
    heads = {name_of(path): path.read_text().split("\n", 1)[0] for path in MODULES}

    assert {name for name, head in heads.items() if head.rstrip('"').endswith(words)} <= held
