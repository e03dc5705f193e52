"""The compose file: valid, closed, and without a secret in it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tools import check
from tests.deploy.written import COMPOSE, DEPLOY, ROOT, compose, compose_variables
from worker.settings import load_configuration

SERVICES: dict[str, Any] = compose()["services"]
OURS = [name for name, one in SERVICES.items() if "deletion-worker" in one["image"]]
ENV_EXAMPLE = DEPLOY / "compose" / ".env.example"


def test_it_is_what_the_specification_says() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE, cwd=ROOT)


def test_all_that_is_to_run_is_there() -> None:
    assert {"worker-1", "worker-2", "clock", "migrate", "metrics", "flower"} == set(OURS)
    assert {"redis", "postgres", "prometheus", "grafana"} == set(SERVICES) - set(OURS)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_nothing_but_its_work(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["logging"]["options"]["max-size"]
    assert service["networks"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_written_down_or_seen_by_ps(name: str) -> None:
    service = SERVICES[name]
    environment = service.get("environment", {})
    arguments = [*service.get("entrypoint", ()), *service.get("command", ())]

    secret = {
        key: value for key, value in environment.items() if re.search("PASSWORD|URL|AUTH", key)
    }
    assert [key for key, value in secret.items() if "${" not in str(value)] == []
    assert [one for one in arguments if "${" in one or "://" in one] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_to_this_host_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


def test_the_databases_reach_nothing_outside() -> None:
    networks = compose()["networks"]

    reached = [*SERVICES["redis"]["networks"], *SERVICES["postgres"]["networks"]]
    assert all(networks[name]["internal"] for name in reached)
    assert not any("ports" in SERVICES[name] for name in ("redis", "postgres"))


def test_the_clock_and_flower_know_no_store() -> None:
    for name in ("clock", "flower"):
        assert "DELETIONS_STORE_URL" not in SERVICES[name]["environment"]
        assert "store" not in SERVICES[name]["networks"]


def test_every_variable_has_its_line() -> None:
    wanted = set(re.findall(r"\$\{(\w+):?\??\}", COMPOSE.read_text()))

    assert wanted <= set(compose_variables())
    assert set(compose_variables()) - wanted == {"DELETIONS_IMAGE"}


def test_the_written_command_makes_passwords_that_differ(tmp_path: Path) -> None:
    text = ENV_EXAMPLE.read_text()
    command = "\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE))
    (tmp_path / ".env.example").write_text(text)

    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)

    made = dict(
        line.split("=", 1)
        for line in (tmp_path / ".env").read_text().splitlines()
        if line and line[0] != "#"
    )
    passwords = [value for key, value in made.items() if key.endswith("PASSWORD")]
    assert made.keys() == compose_variables().keys()
    assert len({*passwords}) == len(passwords)
    assert all(re.fullmatch("[0-9a-f]{48}", one) for one in passwords)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


def test_what_is_mounted_is_there() -> None:
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]

    assert mounted
    assert [one for one in mounted if not (COMPOSE.parent / one).exists()] == []


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.rglob("deletions.toml")), ids=lambda p: p.parent.name
)
def test_a_configuration_that_is_shipped_can_be_read(path: Path) -> None:
    configuration = load_configuration(path)

    assert list(configuration.targets) == ["monitor-17"]
    assert configuration.store.retain_for is not None
