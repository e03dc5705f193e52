"""What the files of deploy/ say: documents, and the commands that they start."""

import configparser
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.tools import need_module

yaml = need_module("yaml")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IMAGE = DEPLOY / "image" / "Dockerfile"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
UNITS = DEPLOY / "systemd"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAY = KUBERNETES / "overlays" / "example"


@dataclass(frozen=True, slots=True)
class Started:
    """A command that a file of deploy/ starts, and what it puts into its environment."""

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def documents(path: Path) -> list[dict[str, Any]]:
    """Every document of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The compose file with the variables of `.env` put in."""
    text = COMPOSE.read_text()
    if variables is not None:
        text = re.sub(
            r"\$\{(\w+)(?::([?-])([^}]*))?\}",
            lambda m: variables.get(m[1], m[3] if m[2] == "-" else ""),
            text,
        )
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def compose_variables() -> dict[str, str]:
    """The lines of `.env.example`."""
    return _variables(DEPLOY / "compose" / ".env.example")


def composed(passwords: Mapping[str, str]) -> dict[str, Started]:
    """What compose starts, by service; images that are not ours with their own entrypoint."""
    services = compose({**compose_variables(), **passwords})["services"]
    return {
        name: Started(
            f"compose-{name}",
            (*service.get("entrypoint", ()), *service.get("command", ())),
            {key: str(value or "") for key, value in service.get("environment", {}).items()},
        )
        for name, service in services.items()
    }


def manifests() -> list[dict[str, Any]]:
    """The objects of the Kubernetes base."""
    listed = documents(KUBERNETES / "base" / "kustomization.yaml")[0]["resources"]
    return [one for name in listed for one in documents(KUBERNETES / "base" / name)]


def example_secrets() -> dict[str, dict[str, str]]:
    """The secrets that a person fills in, by name."""
    path = OVERLAY / "secrets.example.yaml"
    return {one["metadata"]["name"]: one["stringData"] for one in documents(path)}


def in_kubernetes() -> dict[str, Started]:
    """What Kubernetes starts, by the name of the object."""
    found = {}
    for one in manifests():
        for container in containers(one):
            variables = {each["name"]: each["value"] for each in container.get("env", ())}
            for source in container.get("envFrom", ()):
                variables |= example_secrets()[source["secretRef"]["name"]]
            name = one["metadata"]["name"]
            found[name] = Started(f"kubernetes-{name}", tuple(container["command"]), variables)
    return found


def containers(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The containers of an object, none if it has no pods."""
    spec: Mapping[str, Any] = manifest.get("spec", {})
    found: Sequence[Mapping[str, Any]] = (
        spec.get("template", {}).get("spec", {}).get("containers", ())
    )
    return found


def in_units() -> dict[str, Started]:
    """What systemd starts, by unit; of the workers number 1."""
    found = {}
    for path in sorted(UNITS.glob("*.service")):
        service = _unit(path)["Service"]
        line = service["ExecStart"].replace("%i", "1").replace("%%", "%")
        environment = UNITS / (Path(service["EnvironmentFile"]).name + ".example")
        name = path.stem.replace("@", "")
        found[path.name] = Started(
            f"systemd-{name}", tuple(shlex.split(line)), _variables(environment)
        )
    return found


def health_check() -> tuple[str, ...]:
    """The command by which the image tells its health."""
    (command,) = re.findall(r"HEALTHCHECK [^[]*CMD (\[.*\])", IMAGE.read_text())
    return tuple(json.loads(command))


def default_command() -> tuple[str, ...]:
    """What the image does unless it is told otherwise."""
    text = IMAGE.read_text().replace("\\\n", "")
    (command,) = re.findall(r"^CMD (\[.*\])", text, re.MULTILINE)
    return tuple(json.loads(command))


def _unit(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(path.read_text())
    return parser


def _variables(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and line[0] != "#")
    return dict(line.split("=", 1) for line in lines)
