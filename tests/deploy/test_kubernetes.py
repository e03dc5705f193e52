"""The Kubernetes objects: valid, closed, complete, and without a secret in them."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tools import check
from tests.deploy.written import (
    KUBERNETES,
    OVERLAY,
    ROOT,
    containers,
    documents,
    example_secrets,
    manifests,
    yaml,
)

WITH_PODS = {"Deployment", "StatefulSet", "Job"}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an overlay makes of the base.

    No wheel brings kubectl, nor does every Debian a recent one, so without it
    this is skipped everywhere; what stands in the files is checked all the same.
    """
    for tool in (("kubectl", "kustomize"), ("kustomize", "build")):
        if shutil.which(tool[0]):
            path = tmp_path_factory.mktemp("kubernetes") / "rendered.yaml"
            path.write_text(check(*tool, OVERLAY, cwd=ROOT))
            return path
    pytest.skip("neither kubectl nor kustomize is installed")


@pytest.fixture(scope="session")
def objects(rendered: Path) -> list[dict[str, Any]]:
    return documents(rendered)


def plain_files() -> list[Path]:
    """Files of whole objects."""
    left_out = {"kustomization.yaml", "hardening.yaml", "prometheus-adapter.yaml"}
    return [path for path in sorted(KUBERNETES.rglob("*.yaml")) if path.name not in left_out]


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] in kinds]


def pod_of(one: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = one["spec"]["template"]["spec"]
    return spec


def test_what_kubectl_applies_is_what_kubernetes_knows(rendered: Path) -> None:
    check("kubernetes-validate", "--strict", rendered, cwd=ROOT)


def test_secrets_are_what_kubernetes_knows() -> None:
    check("kubernetes-validate", "--strict", OVERLAY / "secrets.example.yaml", cwd=ROOT)


def test_objects_that_need_no_patch_are_what_kubernetes_knows(tmp_path: Path) -> None:
    whole = tmp_path / "whole.yaml"
    whole.write_text(
        yaml.safe_dump_all(
            one for path in plain_files() for one in documents(path) if one["kind"] not in WITH_PODS
        )
    )

    check("kubernetes-validate", "--strict", whole, cwd=ROOT)


def test_the_base_names_every_file_of_its_own() -> None:
    base = KUBERNETES / "base"
    (named,) = documents(base / "kustomization.yaml")
    wanted = {*named["resources"], *(patch["path"] for patch in named["patches"])}

    assert wanted == {path.name for path in base.iterdir()} - {"kustomization.yaml"}


def test_every_pod_obeys_the_restricted_standard(objects: list[dict[str, Any]]) -> None:
    with_pods = of_kind(objects, *WITH_PODS)

    assert len(with_pods) == 5
    for one in with_pods:
        pod = pod_of(one)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_every_pod_is_bounded_and_of_the_image_that_the_overlay_names(
    objects: list[dict[str, Any]],
) -> None:
    (image,) = documents(OVERLAY / "kustomization.yaml")[0]["images"]
    for one in of_kind(objects, *WITH_PODS):
        for container in containers(one):
            assert container["image"] == f"{image['newName']}:{image['newTag']}"
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_every_secret_that_is_named_has_its_example() -> None:
    named = set()
    for one in of_kind(manifests(), *WITH_PODS):
        for container in containers(one):
            named |= {source["secretRef"]["name"] for source in container.get("envFrom", ())}
        for volume in pod_of(one).get("volumes", ()):
            named |= {volume["secret"]["secretName"]} if "secret" in volume else set()

    assert named == set(example_secrets())


def test_no_object_holds_a_secret() -> None:
    assert of_kind(manifests(), "Secret") == []
    for one in of_kind(manifests(), *WITH_PODS):
        for container in containers(one):
            assert "://" not in str(container["command"])
            assert all("://" not in each["value"] for each in container.get("env", ()))


def test_workers_are_scaled_by_the_metric_that_the_adapter_serves() -> None:
    (scaler,) = of_kind(manifests(), "HorizontalPodAutoscaler")
    (adapter,) = documents(KUBERNETES / "prometheus-adapter.yaml")
    (rule,) = adapter["rules"]["external"]
    (metric,) = scaler["spec"]["metrics"]
    (worker,) = of_kind(manifests(), "StatefulSet")

    assert metric["external"]["metric"]["name"] == rule["name"]["as"] == "deletions_batches_ready"
    assert scaler["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    # With a number here every `kubectl apply` would undo what the autoscaler did.
    assert "replicas" not in worker["spec"]


def test_workers_are_not_all_disrupted_at_once() -> None:
    (budget,) = of_kind(manifests(), "PodDisruptionBudget")
    (scaler,) = of_kind(manifests(), "HorizontalPodAutoscaler")
    (worker,) = of_kind(manifests(), "StatefulSet")

    assert budget["spec"]["selector"] == worker["spec"]["selector"]
    assert budget["spec"]["maxUnavailable"] < scaler["spec"]["minReplicas"]


def test_nothing_is_reached_that_is_not_named(objects: list[dict[str, Any]]) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "NetworkPolicy")}

    everybody = policies["deletions"]
    assert everybody["podSelector"] == {}
    assert everybody["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everybody
    ports = [port["port"] for rule in everybody["egress"] for port in rule["ports"]]
    assert ports == [53, 53]
    assert "clock" not in str(policies["to-store"]["podSelector"])
    assert (
        policies["to-targets"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "worker"
    )


def test_a_port_that_a_probe_or_a_service_names_is_there() -> None:
    named = {
        port["name"]
        for one in of_kind(manifests(), "Deployment")
        for container in containers(one)
        for port in container.get("ports", ())
    }
    services = of_kind(manifests(), "Service")
    asked = {port["targetPort"] for one in services for port in one["spec"].get("ports", ())}

    assert asked == named
