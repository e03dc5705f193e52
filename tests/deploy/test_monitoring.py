"""Alerts and dashboard: they can be read, they ask for what is told, and the alerts fire."""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from tests.deploy.tools import check
from tests.deploy.written import DEPLOY, compose, documents, manifests, yaml
from tests.factories import Clock
from worker.exporter import Exporter
from worker.store.memory import MemoryStore

PROMETHEUS = DEPLOY / "prometheus"
GRAFANA = DEPLOY / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "deletions.json").read_text())
RULES: list[dict[str, Any]] = documents(PROMETHEUS / "alerts.yml")[0]["groups"][0]["rules"]
#: What Prometheus itself tells.
ITS_OWN = {"up"}


def test_prometheus_reads_its_configuration_and_the_rules() -> None:
    check("promtool", "check", "config", "prometheus.yml", cwd=PROMETHEUS)


def test_the_alerts_come_when_they_should() -> None:
    check("promtool", "test", "rules", "alerts_test.yml", cwd=PROMETHEUS)


def test_every_alert_is_tested() -> None:
    (tested,) = documents(PROMETHEUS / "alerts_test.yml")
    fired = {
        case["alertname"]
        for test in tested["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }

    assert {rule["alert"] for rule in RULES} == fired


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    readme = (DEPLOY / "README.md").read_text()

    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in readme


def expressions() -> Iterator[str]:
    """What the dashboard asks, with its variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            asked: str = target["expr"]
            yield asked.replace("$__rate_interval", "1m").replace("$target", ".*")
    for one in DASHBOARD["annotations"]["list"]:
        yield one["expr"]


def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    rules = [
        {"record": f"asked:{number}", "expr": asked} for number, asked in enumerate(expressions())
    ]
    path = tmp_path / "asked.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    check("promtool", "check", "rules", path, cwd=tmp_path)


@cache
def told() -> set[str]:
    """Every name that the exporter tells."""
    exporter = Exporter(
        MemoryStore(Clock()),
        targets={},
        purges={},
        check_migration=lambda: None,
        ping_broker=lambda: None,
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    names = set()
    for name, kind in re.findall(r"# TYPE (\w+) (\w+)", generate_latest(registry).decode()):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + part for part in parts}
    return names


def names_in(asked: str) -> set[str]:
    return set(re.findall(r"\b(?:deletions_\w+|up)\b", asked))


def test_only_what_is_told_is_asked_for() -> None:
    (scaler,) = [one for one in manifests() if one["kind"] == "HorizontalPodAutoscaler"]
    asked = {name for text in expressions() for name in names_in(text)}
    asked |= {name for rule in RULES for name in names_in(rule["expr"])}
    asked |= {one["external"]["metric"]["name"] for one in scaler["spec"]["metrics"]}
    asked |= names_in(DASHBOARD["templating"]["list"][1]["query"]["query"])

    assert asked - ITS_OWN <= told()


def test_the_tests_of_the_alerts_feed_them_what_is_told() -> None:
    text = (PROMETHEUS / "alerts_test.yml").read_text()
    fed = set(re.findall(r"series: (\w+)", text))

    assert fed - ITS_OWN <= told()


def test_no_two_panels_lie_upon_each_other() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]

    for one, other in combinations(places, 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_below
    assert max(one["x"] + one["w"] for one in places) <= 24


def test_every_panel_is_one_that_grafana_can_draw() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len({*numbers}) == len(numbers)
    for panel in DASHBOARD["panels"]:
        assert panel["type"] in {"stat", "timeseries", "state-timeline", "bargauge"}
        assert panel["title"]
        assert [target["refId"] for target in panel["targets"]] == ["A", "B"][
            : len(panel["targets"])
        ]
        assert {one["datasource"]["uid"] for one in (panel, *panel["targets"])} == {"${datasource}"}


def test_grafana_finds_dashboard_and_prometheus_where_compose_puts_them() -> None:
    services = compose()["services"]
    mounted = dict(volume.split(":")[:2][::-1] for volume in services["grafana"]["volumes"])
    (provider,) = documents(GRAFANA / "provisioning" / "dashboards" / "deletions.yaml")[0][
        "providers"
    ]
    (source,) = documents(GRAFANA / "provisioning" / "datasources" / "prometheus.yaml")[0][
        "datasources"
    ]

    assert mounted[provider["options"]["path"]] == "../grafana/dashboards"
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services


def test_prometheus_asks_the_metrics_where_they_are() -> None:
    (configuration,) = documents(PROMETHEUS / "prometheus.yml")
    (job,) = configuration["scrape_configs"]
    service, port = job["static_configs"][0]["targets"][0].split(":")

    assert port in compose()["services"][service]["command"]
