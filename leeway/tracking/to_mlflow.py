"""MLflow: the server that MLFLOW_TRACKING_URI names, or else a sqlite database beside the run, ``mlflow.db`` in the
folder of runs. MLflow's store of plain files takes no new runs any more."""

import os
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from ...common.errors import DataError
from .news import COLUMNS, Samples, Step, Turn
from .tracker import About

METRICS, PARAMS = 1000, 100
"""Most that the server takes at once."""
VALUE = 6000
"""Most characters of a parameter."""


class ToMlflow:
    """A run of MLflow. Its parameters are the configuration at the run's start; MLflow never changes one."""

    def __init__(self, about: About, id: str) -> None:
        runs_dir = about.folder.resolve().parent
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs_dir / 'mlflow.db'}"
        self._client = MlflowClient(uri)
        self._uri, self._metrics = uri, list[Metric]()
        """The metrics that are kept back until they fill a batch."""
        self._words: dict[str, str] = {}
        if id:
            self.id = id
            self._take_up(about)
            return
        found = self._client.get_experiment_by_name(about.project)
        place = f"file://{runs_dir / 'mlflow-artifacts'}" if uri.startswith("sqlite:") else None
        experiment = found.experiment_id if found else self._client.create_experiment(about.project, place)
        self.id = self._client.create_run(experiment, run_name=about.run).info.run_id
        params = [Param(key, text[:VALUE]) for key, text in flat(about.config).items()]
        for first in range(0, len(params), PARAMS):
            self._client.log_batch(self.id, params=params[first : first + PARAMS])

    def _take_up(self, about: About) -> None:
        try:
            self._client.update_run(self.id, status="RUNNING")
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            kept = about.folder / "trackers" / "mlflow.json"
            raise DataError(
                f"MLflow at {self._uri} has no run {self.id}, which this one was sent to: name its server in "
                f"MLFLOW_TRACKING_URI, or remove {kept}, and the run is sent from the beginning"
            ) from error

    def step(self, step: Step, row: int) -> None:
        """All measurements under the step; a metric that is a word is a tag, where it has changed."""
        at_ms = int(1000 * step.at)
        self._metrics += [Metric(name, value, at_ms, step.step) for name, value in step.numbers.items()]
        while len(self._metrics) >= METRICS:
            self._send()
        for name, word in step.words.items():
            if self._words.get(name) != word:
                self._words[name] = word
                self._client.set_tag(self.id, name, word)

    def _send(self) -> None:
        self._client.log_batch(self.id, metrics=self._metrics[:METRICS])
        del self._metrics[:METRICS]

    def turn(self, turn: Turn) -> None:
        """A tag for each: MLflow has no notes beside curves."""
        self._client.set_tag(self.id, f"turn/step {turn.step:06}/{turn.name}", turn.text)

    def samples(self, samples: Samples, row: int) -> None:
        """An artifact, in the shape of a table of pandas (orient ``split``)."""
        table = {"columns": list(COLUMNS), "data": samples.rows}
        self._client.log_dict(self.id, table, f"samples/step {samples.step:06}, ticket {samples.ticket}.json")

    def flush(self) -> None:
        """Send the metrics that do not fill a batch."""
        if self._metrics:
            self._send()

    @property
    def where(self) -> str:
        """The server, or the database that `mlflow ui` shows."""
        return f"MLflow run {self.id} in {self._uri}"

    def close(self, *, finished: bool) -> None:
        """Say whether the run is complete."""
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


def flat(config: dict[str, Any]) -> dict[str, str]:
    """A configuration by ``section.key``; lists of sections are numbered. Pure."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, list) and any(isinstance(each, dict) for each in value):
            value = {str(number): each for number, each in enumerate(value)}
        if isinstance(value, dict):
            found |= {f"{name}.{key}": text for key, text in flat(value).items()}
        else:
            found[name] = str(value)
    return found
