"""The manifests: valid by the kinds' schemas, without a cluster; they agree with the settings.

What kustomize makes of them is checked where kubectl is installed; elsewhere those tests are
skipped and say so. The schemas of Kubernetes' own kinds come from a package, for several versions.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from penstock.schemas.streams import STREAMS
from penstock.worker.cli import main
from penstock.worker.settings.keys import Settings, load
from tests.docs.sections import ROOT
from tests.unit.deploy.custom_kinds import CUSTOM_KINDS

FOLDER = ROOT / "deploy" / "kubernetes"
NEWEST = kubernetes_validate.latest_version()
OLDEST = "1.29"
MANIFESTS = sorted(set(FOLDER.rglob("*.yaml")) - set(FOLDER.rglob("kustomization.yaml")))
Manifest = dict[str, Any]

kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="not run: no kubectl here")


def documents(file: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(file.read_text()))


def rendered(folder: Path) -> dict[str, Manifest]:
    """What kustomize makes of a folder, by kind: there is one of each."""
    made = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    found = list(yaml.safe_load_all(made.stdout))
    by_kind = {document["kind"]: document for document in found}
    assert len(by_kind) == len(found)
    return by_kind


def example(tmp_path: Path, scaling: str) -> dict[str, Manifest]:
    """The example, scaled by the broker that the component ``scaling`` is for."""
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy)
    file = copy / "example" / "kustomization.yaml"
    text = file.read_text()
    assert "- ../autoscale-nats\n" in text
    text = text.replace("- ../autoscale-nats\n", f"- ../{scaling}\n")
    file.write_text(text + "      - rabbitmq_password=change-me\n")
    return rendered(copy / "example")


def without_nats(tmp_path: Path) -> dict[str, Manifest]:
    """The example for RabbitMQ alone, with no word of NATS in its Secret."""
    example(tmp_path, "autoscale-rabbitmq")
    file = tmp_path / "kubernetes" / "example" / "kustomization.yaml"
    both = "- ../autoscale-rabbitmq\n  - ../without-nats\n"
    text = file.read_text().replace("- ../autoscale-rabbitmq\n", both)
    file.write_text(text.replace("      - nats_password=change-me\n", ""))
    return rendered(file.parent)


def check(document: Manifest, version: str = NEWEST) -> None:
    """By the schema of its kind; unknown fields are faults."""
    if schema := CUSTOM_KINDS.get(document["kind"]):
        jsonschema.validate(document, schema)
        return
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: str(file.relative_to(FOLDER)))
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_manifest_is_valid(file: Path, version: str) -> None:
    for document in documents(file):
        check(document, version)


def test_every_manifest_is_used() -> None:
    for file in MANIFESTS:
        listed = yaml.safe_load((file.parent / "kustomization.yaml").read_text())["resources"]
        assert file.name in listed


@kubectl
@pytest.mark.parametrize("scaling", ["autoscale-nats", "autoscale-rabbitmq"])
def test_what_kustomize_makes_of_the_example_is_valid(tmp_path: Path, scaling: str) -> None:
    found = example(tmp_path, scaling)
    for document in found.values():
        check(document)
    assert "replicas" not in found["Deployment"]["spec"]
    names = {document["metadata"]["name"] for document in found.values()}
    assert all(name.startswith("penstock") for name in names)


@kubectl
def test_two_ways_of_scaling_one_deployment_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy)
    file = copy / "example" / "kustomization.yaml"
    both = "- ../autoscale-nats\n  - ../autoscale-rabbitmq\n"
    file.write_text(file.read_text().replace("- ../autoscale-nats\n", both))
    with pytest.raises(AssertionError, match="already registered id"):
        rendered(copy / "example")


def test_a_slip_of_the_pen_is_found() -> None:
    """The checks themselves: a field that is misspelt, missing, or of another type."""
    (worker,) = documents(FOLDER / "base" / "worker.yaml")
    worker["spec"]["template"]["spec"]["terminationGracePeriod"] = 40
    with pytest.raises(kubernetes_validate.ValidationError):
        check(worker)
    (scale,) = documents(FOLDER / "autoscale-nats" / "scale.yaml")
    scale["spec"]["triggers"][0]["metadata"]["lagTreshold"] = "1"
    with pytest.raises(jsonschema.ValidationError):
        check(scale)


def settings_of(found: dict[str, Manifest], pod: Manifest, container: Manifest) -> Settings:
    """What a container's ``penstock`` reads: its variables, and the files of its Secret."""
    environ = dict(found["ConfigMap"]["data"]) if "envFrom" in container else {}
    mounted = {item["path"] for volume in pod["volumes"] for item in volume["secret"]["items"]}
    assert mounted <= set(found["Secret"]["data"])
    for variable in container["env"]:
        name, value = variable["name"], variable.get("value", "penstock-5d9c7b6f4-x2x7k")
        if name.endswith("_FILE"):
            assert Path(value).name in mounted
            assert value.startswith(container["volumeMounts"][0]["mountPath"])
            name, value = name.removesuffix("_FILE"), "postgresql://secret@postgres/penstock"
        environ[name] = value
    return load({}, environ)


def containers(found: dict[str, Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    for kind in ("Deployment", "Job"):
        pod = found[kind]["spec"]["template"]["spec"]
        for container in pod.get("initContainers", []) + pod["containers"]:
            yield pod, container


@kubectl
@pytest.mark.parametrize("scaling", ["autoscale-nats", "autoscale-rabbitmq"])
def test_every_setting_exists_and_every_secret_is_there(tmp_path: Path, scaling: str) -> None:
    found = example(tmp_path, scaling)
    for pod, container in containers(found):
        settings = settings_of(found, pod, container)
        if container["name"] == "worker":
            assert settings.brokers == (scaling.removeprefix("autoscale-"),)
            assert settings.http_port == 8080
            assert settings.worker_id == "penstock-5d9c7b6f4-x2x7k"


@kubectl
def test_rabbitmq_alone_needs_nothing_of_nats(tmp_path: Path) -> None:
    found = without_nats(tmp_path)
    for document in found.values():
        check(document)
    for pod, container in containers(found):
        settings = settings_of(found, pod, container)
        assert settings.nats_password is None
        if container["name"] == "worker":
            assert (settings.brokers, settings.kv) == (("rabbitmq",), False)
            assert settings.rabbitmq_password


@kubectl
def test_numbers_agree_with_the_settings(tmp_path: Path) -> None:
    found = example(tmp_path, "autoscale-nats")
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    settings = settings_of(found, pod, worker)
    assert pod["terminationGracePeriodSeconds"] >= settings.drain_timeout + 15
    assert worker["resources"]["limits"]["memory"] == "1Gi"
    assert 4 * settings.memory_limit <= 2**30
    assert worker["ports"] == [{"name": "http", "containerPort": settings.http_port}]
    scale = found["ScaledObject"]["spec"]
    held = settings.batch_size * settings.in_flight
    assert settings.max_ack_pending >= held * scale["maxReplicaCount"]
    connections = settings.pool_size + 1  # the outbox has one beside the pool
    assert connections * scale["maxReplicaCount"] < 97, "PostgreSQL allows 97 by default"
    for trigger in scale["triggers"]:
        assert int(trigger["metadata"]["lagThreshold"]) == held
        assert trigger["metadata"]["consumer"] == settings.consumer


@pytest.mark.parametrize(
    ("folder", "key"), [("autoscale-nats", "stream"), ("autoscale-rabbitmq", "queueName")]
)
def test_every_stream_is_watched(folder: str, key: str) -> None:
    *_, scale = documents(FOLDER / folder / "scale.yaml")
    watched = [trigger["metadata"][key] for trigger in scale["spec"]["triggers"]]
    assert watched == list(STREAMS)


def test_every_command_exists() -> None:
    for file in ("base/worker.yaml", "base/migrate.yaml", "retention/partitions.yaml"):
        (document,) = documents(FOLDER / file)
        spec = document["spec"]
        pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
        for container in pod.get("initContainers", []) + pod["containers"]:
            asked = CliRunner().invoke(main, [*container["args"], "--help"])
            assert asked.exit_code == 0, asked.output


def test_every_container_is_confined_as_the_image_is() -> None:
    (user,) = re.findall(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for file in ("worker.yaml", "migrate.yaml"):
        (document,) = documents(FOLDER / "base" / file)
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user)
        assert pod["automountServiceAccountToken"] is False
        for container in pod.get("initContainers", []) + pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= set(container["resources"])


def test_no_secret_is_in_the_base() -> None:
    text = "".join(
        file.read_text() for file in FOLDER.rglob("*.yaml") if "example" not in str(file)
    )
    assert not re.search(r"kind: Secret\b", text)
