"""The Kubernetes files agree with the project and with each other; charts and schemas are checked by hand, see
deploy/README.md.
"""

import importlib
import re
from itertools import chain

import pytest
import yaml

from luna_pipeline.runs.launcher import LOCATION
from luna_pipeline_tests.processes import REPOSITORY

FOLDER = REPOSITORY / "deploy/kubernetes"
STACK = REPOSITORY / "deploy/stack"
FILES = sorted(FOLDER.glob("*.yaml"))
VALUES = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text())
OBJECTS = [
    found for path in FILES if path.name != "dagster-values.yaml" for found in yaml.safe_load_all(path.read_text())
]
# What each part is told by other means than this project's own variables.
OTHERS = {"DAGSTER_HOME", "DAGSTER_PG_PASSWORD", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "RAY_AUTH_TOKEN"}
OTHERS |= {"RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_enable_metrics_collection"}


def one(kind: str, name: str) -> dict:
    (found,) = [found for found in OBJECTS if (found["kind"], found["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> list[dict]:
    ray = one("RayCluster", "luna-ray")["spec"]
    groups = [ray["headGroupSpec"], *ray["workerGroupSpecs"]]
    return [one("Deployment", "luna-pipeline")["spec"]["template"]["spec"], *(g["template"]["spec"] for g in groups)]


def containers() -> list[dict]:
    return list(chain.from_iterable(pod["containers"] for pod in pods()))


def everything(values: object) -> list[tuple[str, object]]:
    """Each key with its value, however deep."""
    if isinstance(values, dict):
        return [pair for key, value in values.items() for pair in [(key, value), *everything(value)]]
    return [pair for value in values for pair in everything(value)] if isinstance(values, list) else []


def test_everything_is_of_one_image():
    images = {container["image"] for container in containers()}
    values = VALUES["dagsterWebserver"]["image"], VALUES["dagsterDaemon"]["image"]
    assert images | {f"{image['repository']}:{image['tag']}" for image in values} == {"luna-pipeline:0.1.0"}


def test_run_launcher_is_the_projects_and_watches_the_location_that_the_workspace_names():
    launcher = VALUES["runLauncher"]
    assert launcher["type"] == "CustomRunLauncher"
    own = launcher["config"]["customRunLauncher"]
    assert hasattr(importlib.import_module(own["module"]), own["class"])
    stack = yaml.safe_load((STACK / "dagster.yaml").read_text())
    assert (own["module"], own["class"]) == (stack["run_launcher"]["module"], stack["run_launcher"]["class"])
    (server,) = VALUES["dagsterWebserver"]["workspace"]["servers"]
    service = one("Service", server["host"])
    assert server == {"host": "luna-pipeline", "port": service["spec"]["ports"][0]["port"], "name": LOCATION}


def test_dagster_is_configured_as_in_the_stack():
    stack = yaml.safe_load((STACK / "dagster.yaml").read_text())
    daemon, more = VALUES["dagsterDaemon"], VALUES["additionalInstanceConfig"]
    assert camel(stack["run_monitoring"]) == daemon["runMonitoring"]
    assert camel(stack["run_retries"]) == daemon["runRetries"]
    assert stack["run_coordinator"] == daemon["runCoordinator"]["config"]["customRunCoordinator"]
    assert camel(stack["concurrency"]) | {"enabled": True} == VALUES["concurrency"]
    assert (stack["nux"], stack["freshness"]) == (more["nux"], more["freshness"])
    assert stack["telemetry"] == VALUES["telemetry"] == {"enabled": False}
    assert stack["python_logs"]["python_log_level"] == VALUES["pythonLogs"]["pythonLogLevel"]
    assert stack["storage"]["postgres"]["postgres_db"]["scheme"] == VALUES["postgresql"]["postgresqlScheme"]
    for name, kept in stack["retention"].items():
        assert kept["purge_after_days"].items() <= VALUES["retention"][name]["purgeAfterDays"].items()


def camel(values: dict) -> dict:
    """The chart's spelling of dagster.yaml's words."""
    spelled = {re.sub(r"_(\w)", lambda match: match[1].upper(), key): value for key, value in values.items()}
    return {key: camel(value) if isinstance(value, dict) else value for key, value in spelled.items()}


def test_variables_and_files_are_those_that_the_project_reads():
    readers = [*(REPOSITORY / "luna_pipeline").rglob("*.py"), *STACK.glob("*.sh")]
    known = set(re.findall(r"\b(?:LUNA|RAY)_[A-Za-z_]+\b", "".join(path.read_text() for path in readers))) | OTHERS
    named = {variable["name"] for container in containers() for variable in container["env"]}
    assert named | set(one("ConfigMap", "luna-ray")["data"]) <= known
    (code,) = pods()[0]["containers"]
    for command in (code["command"], code["readinessProbe"]["exec"]["command"]):
        (path,) = [word for word in command if word.startswith("/opt/luna/stack/")]
        assert (STACK / path.rpartition("/")[2]).is_file()
    home = VALUES["global"]["dagsterHome"]
    assert {"name": "DAGSTER_HOME", "value": home} in code["env"]
    assert f"{home}/dagster.yaml" in [mount["mountPath"] for mount in code["volumeMounts"]]


def test_volumes_are_claimed_and_mounted():
    claimed = {found["metadata"]["name"] for found in OBJECTS if found["kind"] == "PersistentVolumeClaim"}
    named = {value for key, value in [*everything(OBJECTS), *everything(VALUES)] if key == "claimName"}
    assert named == claimed == {"luna-data", "luna-cache", "luna-dagster"}
    for pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_nothing_is_root_or_writes_outside_its_volumes():
    web = [VALUES[part] for part in ("dagsterWebserver", "dagsterDaemon")]
    for security in (*(pod["securityContext"] for pod in pods()), *(part["podSecurityContext"] for part in web)):
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 1000)
    own = [*(container["securityContext"] for container in containers()), *(part["securityContext"] for part in web)]
    assert all(security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] for security in own)
    assert all(security["capabilities"] == {"drop": ["ALL"]} for security in own)
    assert not any("automountServiceAccountToken" not in pod or pod["automountServiceAccountToken"] for pod in pods())


def test_ray_wants_the_token_of_one_secret_and_is_found_by_its_service():
    ray = one("RayCluster", "luna-ray")
    assert ray["spec"]["authOptions"] == {"mode": "token", "secretName": "luna-ray"}
    told = one("ConfigMap", "luna-ray")["data"]
    assert told == {"RAY_ADDRESS": f"{ray['metadata']['name']}-head-svc:6379", "RAY_AUTH_MODE": "token"}
    (code,) = pods()[0]["containers"]
    (token,) = [variable for variable in code["env"] if variable["name"] == "RAY_AUTH_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"] == {"name": "luna-ray", "key": "auth_token", "optional": True}
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert f"ray=={ray['spec']['rayVersion']}" in re.sub(r"\[.*?\]", "", lock)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_stands_in_a_file(path):
    documents = list(yaml.safe_load_all(path.read_text()))
    assert not any(found.get("kind") == "Secret" for found in documents)
    for key, value in everything(documents):
        if isinstance(value, str) and re.search("password|token|secret_?key$", key, re.IGNORECASE):
            pytest.fail(f"{key}: {value}")
    for variable in dicts(documents):
        if re.search("PASSWORD|TOKEN|SECRET|ACCESS_KEY", str(variable.get("name"))):
            assert "value" not in variable


def dicts(values: object) -> list[dict]:
    if isinstance(values, dict):
        return [values, *(found for value in values.values() for found in dicts(value))]
    return [found for value in values for found in dicts(value)] if isinstance(values, list) else []
