"""What the dashboard and the alert rules in ``deploy/monitoring`` ask Prometheus for."""

import json
import re
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "monitoring"


def dashboard() -> dict:
    return json.loads((FOLDER / "grafana" / "dashboards" / "leeway.json").read_text())


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def asked() -> list[str]:
    """Every PromQL expression."""
    board = dashboard()
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    annotations = [each["expr"] for each in board["annotations"]["list"]]
    variables = [each["definition"] for each in board["templating"]["list"]]
    return [*panels, *annotations, *variables, *(rule["expr"] for rule in rules())]


def series() -> set[str]:
    """Every series, by its name."""
    return {name for each in asked() for name in re.findall(r"leeway_\w+", each)}


def measurements() -> set[str]:
    """Every measurement of a training step, by its name in ``metrics.jsonl``."""
    return {name for each in asked() for name in re.findall(r'name="([^"]+)"', each)}
