"""What the compose profile ``monitoring`` provides fits together. Prometheus' own checks run where it is installed;
that every series exists is checked where it is served (common/test_watch.py) or measured (integration/test_run.py)."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring import FOLDER, asked, dashboard, rules

ROOT = FOLDER.parent.parent
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")


def promtool(*words: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_prometheus_accepts_its_configuration_and_the_rules():
    assert "5 rules found" in promtool("check", "config", FOLDER / "prometheus.yml")


@needs_promtool
def test_the_rules_fire_when_they_should_and_only_then():
    promtool("test", "rules", FOLDER / "alerts_test.yml")


@needs_promtool
def test_every_expression_of_the_dashboard_is_promql(tmp_path):
    def filled(text: str) -> str:
        return text.replace("$run", "demo").replace("$__rate_interval", "1m")

    recorded = [
        {"record": f"asked:{number}", "expr": filled(each)}
        for number, each in enumerate(asked())
        if not each.startswith("label_values(")  # Grafana's own
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


def test_every_panel_has_a_title_a_meaning_and_a_place_of_its_own():
    taken = set()
    for panel in dashboard()["panels"]:
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith(".")
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_alert_says_whose_run_it_is_and_what_to_do():
    for rule in rules():
        assert "$labels.run" in rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")


def test_the_dashboard_asks_the_data_source_that_is_provisioned():
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources/prometheus.yml").read_text())["datasources"]
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert services["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    assert services["grafana"]["ports"] == ["127.0.0.1:3000:3000"]


def test_what_compose_mounts_is_there_and_every_role_is_read_where_it_serves():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        for mount in services[name]["volumes"]:
            if mount.startswith("."):
                assert (ROOT / mount.partition(":")[0]).exists(), mount
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    roles = {name: each for name, each in services.items() if "LEEWAY_METRICS_PORT" in each.get("environment", {})}
    assert set(found["names"]) == set(roles)
    assert {each["environment"]["LEEWAY_METRICS_PORT"] for each in roles.values()} == {str(found["port"])}
