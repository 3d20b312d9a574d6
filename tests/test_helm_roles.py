"""What the chart in ``deploy/helm/leeway`` renders fits our own code: commands, keys of Redis, users, the dry run."""

import json
import re
import shlex

import pytest
import typer
import yaml
from leeway_rl.common import address, exporter
from leeway_rl.common.config import Config, compose
from leeway_rl.common.keys import RUN_ID, Keys
from leeway_rl.leeway.running.acl import acl
from leeway_rl.leeway.running.dry_run import arithmetic
from leeway_rl.leeway.running.placement import lay_out

from tests.helm import (
    CHART,
    EVERY,
    PRESETS,
    ROLES,
    ROOT,
    VALUES,
    container,
    helm,
    named,
    of,
    render,
    rendered_as,
    templates,
)


@pytest.fixture(params=EVERY)
def rendered(request):
    return rendered_as(request.param)


def parsed(args, **variables):
    """What our own command line understands. ``$(NAME)`` is filled in as Kubernetes does it."""
    from leeway_rl.leeway.cli import app

    program, command, *words = [re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], word) for word in args]
    assert program == "leeway"
    return typer.main.get_command(app).commands[command].make_context(command, words).params


def test_every_command_is_understood_and_every_setting_is_a_key(rendered):
    roles = {name: each for name, each in templates(rendered).items() if name in ROLES}
    assert set(roles) == set(ROLES)
    for name, template in roles.items():
        params = parsed(container(template)["args"], LEARNER_NODE="1")
        assert RUN_ID.fullmatch(params["word"])
        if name == "learner" and "run" not in str(params["preset"]):
            config = compose(params["preset"], params["settings"])
            grace = template["spec"]["terminationGracePeriodSeconds"]
            assert grace == config.broker.drain_s + 30  # torchrun leaves the ranks five seconds of it
            mounts = {each["mountPath"] for each in container(template)["volumeMounts"]}
            assert config.weights.folder in (None, *mounts)


def test_every_variable_and_port_is_one_that_the_code_reads(rendered):
    ours = {address.VARIABLE, exporter.VARIABLE, exporter.HOST}
    for name, template in templates(rendered).items():
        if name not in ROLES:
            continue
        own = container(template)
        variables = {each["name"]: each.get("value") for each in own["env"]}
        assert variables[address.VARIABLE] == "@/etc/leeway/redis/url"
        assert variables[exporter.HOST] == "0.0.0.0"
        assert own["ports"] == [{"name": "metrics", "containerPort": int(variables[exporter.VARIABLE])}]
        others = set(variables) - ours - {"OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "VLLM_LOGGING_LEVEL"}
        assert others == ({"LEARNER_NODE"} if name == "learner" else set())
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert own[probe]["exec"]["command"] == ["/bin/sh", "/etc/leeway/pod/alive.sh"]


def test_the_learners_pods_are_its_nodes_and_find_the_first_by_its_name():
    manifests = rendered_as("two nodes")
    learner = of(manifests, "StatefulSet", "-learner")
    first, replicas = learner["spec"]["ordinals"]["start"], learner["spec"]["replicas"]
    assert learner["spec"]["podManagementPolicy"] == "Parallel"
    assert learner["spec"]["updateStrategy"]["type"] == "OnDelete"
    service = of(manifests, "Service", "-learner")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    own = container(learner["spec"]["template"])
    (index,) = [each for each in own["env"] if each["name"] == "LEARNER_NODE"]
    assert index["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
    seen = [parsed(own["args"], LEARNER_NODE=str(number)) for number in range(first, first + replicas)]
    assert [(each["nodes"], each["node"]) for each in seen] == [(2, 1), (2, 2)]
    assert {each["first_node"] for each in seen} == {
        f"{learner['metadata']['name']}-{first}.{service['metadata']['name']}"
    }


def test_a_learner_that_starts_again_says_the_same_and_goes_on_from_the_run_s_folder():
    """Its command names the run and its configuration, and nothing of how far it is: leeway learner creates the run
    where there is none, takes the same configuration for the same run, and goes on from the newest checkpoint."""
    template = templates(rendered_as("defaults"))["learner"]
    params = parsed(container(template)["args"])
    assert (params["word"], params["preset"], params["nodes"]) == ("demo", ["tiny"], 1)
    assert {"name": "runs", "mountPath": "/work/runs"} in container(template)["volumeMounts"]
    assert container(template)["workingDir"] == "/work"
    assert of(rendered_as("defaults"), "PersistentVolumeClaim")["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep"
    }


@pytest.mark.parametrize("name", PRESETS)
def test_the_values_of_a_preset_have_the_gpus_memory_and_disk_that_its_dry_run_says(name):
    manifests = rendered_as(name)
    config = compose([name], [])
    layout, said = lay_out(config, config.placement.gpus_per_node, alone=False), arithmetic(config)
    learner, rollout = of(manifests, "StatefulSet", "-learner"), of(manifests, "Deployment", "-rollout")
    laid = [each for each in layout.placed if each.ranks]
    assert learner["spec"]["replicas"] == len(laid)
    assert limits(learner)["nvidia.com/gpu"] == len(laid[0].gpus) == config.train.ranks // len(laid)
    assert rollout["spec"]["replicas"] == config.rollout.workers
    assert limits(rollout)["nvidia.com/gpu"] == config.rollout.tensor_parallel
    shared = size_of(volume(rollout, "shared-memory")["emptyDir"]["sizeLimit"])
    assert shared >= figure(r"two versions, shared +([\d.]+ .B)", said)
    assert size_of(limits(rollout)["memory"]) - shared > 20e9  # vLLM's own
    own = size_of(volume(learner, "shared-memory")["emptyDir"]["sizeLimit"])
    assert size_of(limits(learner)["memory"]) - own >= figure(r"memory of the node of rank 0.*? ([\d.]+ .B)", said)
    disk = {each["metadata"]["name"]: each["spec"]["resources"]["requests"]["storage"] for each in manifests
            if each["kind"] == "PersistentVolumeClaim"}  # fmt: skip
    assert size_of(disk["leeway-runs"]) >= figure(r"checkpoints +([\d.]+ .B)", said)
    assert size_of(disk["leeway-weights"]) >= figure(r"versions in weights.folder +([\d.]+ .B)", said)
    payload = figure(r"while one is written, at most.* ([\d.]+ .B)\n", said)
    (memory,) = re.findall(r"maxmemory (\d+)gb", of(manifests, "ConfigMap", "-redis")["data"]["redis.conf"])
    assert int(memory) * 2**30 >= payload
    scaling = yaml.safe_load((CHART / "values" / f"{name}.yaml").read_text())
    assert scaling["rollout"]["autoscaling"]["groupsPerWorker"] == config.rollout.at_once


def limits(controller):
    return container(controller["spec"]["template"])["resources"]["limits"]


def volume(controller, name):
    (found,) = [each for each in controller["spec"]["template"]["spec"]["volumes"] if each["name"] == name]
    return found


def size_of(quantity):
    number, unit = re.fullmatch(r"(\d+)(Gi|Ti)", quantity).groups()
    return int(number) * {"Gi": 2**30, "Ti": 2**40}[unit]


def figure(pattern, text):
    number, unit = re.search(pattern, text)[1].split()
    return float(number) * {"MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]


def test_the_scaler_asks_for_the_streams_that_the_workers_take_from():
    manifests = render(values=VALUES["scaled"] | {"run": {"id": "mine"}})
    keys, targets = Keys("mine"), {}
    for each in manifests:
        if each["kind"] == "ScaledObject":
            (trigger,) = each["spec"]["triggers"]
            assert all(isinstance(value, str) for value in trigger["metadata"].values())
            assert trigger["authenticationRef"]["name"] in named(manifests, "TriggerAuthentication")
            targets[each["spec"]["scaleTargetRef"]["name"]] = trigger["metadata"]
    assert {name: each["stream"] for name, each in targets.items()} == {
        "leeway-rollout": keys.prompts,
        "leeway-verifier": keys.responses,
    }
    # Without a consumer group KEDA asks for the stream's length: what is queued and what is under way.
    assert not any("consumerGroup" in each for each in targets.values())
    secret = of(manifests, "Secret", "-redis")["stringData"]
    for each in of(manifests, "TriggerAuthentication")["spec"]["secretTargetRef"]:
        assert each["key"] in secret or each["name"] == "leeway-redis-tls"


def test_the_users_are_those_of_leeway_acl_for_this_run_alone():
    assert (CHART / "files" / "users.acl").read_text() == acl(None, None) + "\n"
    lines = of(render(values={"run": {"id": "mine"}}), "Secret", "-redis")["stringData"]["users.acl"].splitlines()
    without = [re.sub(r" on (resetpass|#[0-9a-f]{64}) ", " on ", line) for line in lines]
    ours = [
        re.sub(r" on resetpass ", " on ", line) for line in acl("mine", None).replace("-mine on", " on").splitlines()
    ]
    assert without[1:5] == ours
    assert len(set(re.findall("#[0-9a-f]{64}", "".join(lines)))) == 5
    assert [line.split()[1] for line in lines[5:]] == ["leeway-scaler", "leeway-probe"]


def test_the_sandbox_has_the_profile_of_the_compose_file_and_every_verifier_asks_for_it():
    manifests = rendered_as("sandbox")
    profile = (ROOT / "deploy/docker/seccomp.json").read_text()
    assert json.loads(of(manifests, "ConfigMap", "-sandbox")["data"]["profile.json"]) == json.loads(profile)
    for name in ("rollout", "verifier"):
        own = container(templates(manifests)[name])["securityContext"]
        assert own["seccompProfile"] == {"type": "Localhost", "localhostProfile": "leeway/sandbox.json"}
        assert own["appArmorProfile"] == {"type": "Unconfined"}
    assert "seccompProfile" not in container(templates(manifests)["learner"])["securityContext"]
    assert "/node/leeway/sandbox.json" in container(templates(manifests)["sandbox"])["args"][0]


def test_the_page_names_no_value_that_is_not_there():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    page = (ROOT / "docs/how-to/kubernetes.md").read_text()
    sections = "run|learner|rollout|verifier|runs|weights|models|sandbox|redis|networkPolicy|podMonitor"
    told = re.findall(rf"(?<![\w./-])((?:{sections})(?:\.[a-zA-Z_]+)+)", page)
    assert len(told) > 15
    keys = {f"{section}.{key}" for section, each in values.items() if isinstance(each, dict) for key in each}
    sections_of_ours = {
        name: getattr(each.annotation, "model_fields", ()) for name, each in Config.model_fields.items()
    }
    keys |= {f"{name}.{key}" for name, section in sections_of_ours.items() for key in section}
    assert [each for each in told if ".".join(each.split(".")[:2]) not in keys] == []


def test_the_commands_of_helm_on_the_page_render():
    page = (ROOT / "docs/how-to/kubernetes.md").read_text().replace("\\\n", "")
    installs = re.findall(r"^helm install (\S+) deploy/helm/leeway (.*)$", page, re.M)
    assert len(installs) == 2
    for release, words in installs:
        done = helm("template", release, CHART, *shlex.split(words))
        assert done.returncode == 0, done.stderr
        assert f"name: {release}-leeway-learner\n" in done.stdout


def test_the_chart_has_the_version_that_leeway_has():
    from leeway_rl import __version__

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
    assert (CHART / "values.yaml").read_text().count("leeway-rl:cpu") == 2  # as docker-compose.yml calls them
