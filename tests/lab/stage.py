"""Laying the project out as it is installed on a node."""

import contextlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

LAUNCHED = ("cni-vlan", "cni-ipam")
_BUILD_ONLY = (
    "mypy",
    "ruff",
    "pip",
    "setuptools",
    "piptools",
    "pip_tools",
    "build",
    "wheel",
    "pyinstaller",
    "_pyinstaller_hooks_contrib",
    "pyinstaller_hooks_contrib",
    "matplotlib",
    "mpl_toolkits",
    "numpy",
    "numpy.libs",
    "pil",
    "pillow",
    "pillow.libs",
    "fonttools",
)


def site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))


def interpreter() -> Path:
    return Path(sys.executable)


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cni-vlan-lab-") as name:
        yield Path(name)


def install_executables(target: Path, libraries: Path, project: Path, interpreter: str) -> None:
    """Write an executable for each console script, free of the environment of whoever runs it."""
    target.mkdir(parents=True, exist_ok=True)
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    for name, entry in scripts["project"]["scripts"].items():
        module, _, function = entry.partition(":")
        path = target / name
        path.write_text(
            f"#!{interpreter} -IS\n"
            "import sys\n"
            f"sys.path += [{str(project)!r}, {str(libraries)!r}]\n"
            f"from {module} import {function}\n"
            f"sys.exit({function}())\n"
        )
        path.chmod(0o755)
    launcher = Path(__file__).parents[2] / "dist" / "launcher"
    if launcher.exists():
        for name in LAUNCHED:
            (target / "launched").mkdir(exist_ok=True)
            shutil.copy2(launcher, target / "launched" / name)


def copy_libraries(installed: Path, target: Path) -> None:
    """Copy the installed packages that run on a node, with their compiled files."""

    def skipped(_directory: str, names: list[str]) -> set[str]:
        return {name for name in names if name.split("-")[0].lower() in _BUILD_ONLY or name.endswith(".pth")}

    shutil.copytree(installed, target, ignore=skipped)


def copy_project(project: Path, target: Path) -> None:
    """Copy what git knows or could know of the project, and compile it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=project,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = project / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    if (project / "dist" / "launcher").exists():  # built
        shutil.copytree(project / "dist", target / "dist")
    packages = [str(path) for path in target.iterdir() if path.is_dir()]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], check=True)
