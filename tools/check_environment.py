"""Say in one sentence what an environment lacks of pyproject.toml's requirements; silent if it lacks nothing."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("hdf5", "notebooks", "test")
SHOWN = 4  # problems named one by one


def requirements():
    """What the package and its notebooks and tests need, as written in pyproject.toml."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + [r for extra in EXTRAS for r in project["optional-dependencies"][extra]]


def unmet(requirement):
    """What is wrong with a requirement here, such as "torch 2.3.0 (torch>=2.11)"; None if it is met."""
    from importlib import metadata

    name, _, lowest = requirement.partition(">=")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name
    return f"{name} {version} ({requirement})" if numbers(version) < numbers(lowest) else None


def numbers(version):
    """(2, 14, 1) for "2.14.1+cu130"; enough to compare a release with a lower bound."""
    parts = version.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def main():
    if sys.version_info < (3, 11):  # noqa: UP036 (this file is run by whatever interpreter the user names)
        return "{} is Python {}.{}: 3.11 or newer is needed.".format(sys.executable, *sys.version_info[:2])
    lacking = [problem for problem in map(unmet, requirements()) if problem]
    if not lacking:
        return None
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    names = ", ".join(lacking[:SHOWN]) + more
    return f"{sys.executable} lacks {names}: run `make setup PYTHON=...`, or leave PYTHON out."


if __name__ == "__main__":
    sys.exit(main())
