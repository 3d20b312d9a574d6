"""The updates of a training step: each one's learning rate, the optimizer's step, and what is measured of them. All
numbers are over all ranks and the same on each."""

import torch
from torch import Tensor

from ..common.config import Config
from .objective.learning_rate import ess_factor, ess_share, ess_sums, learning_rate, response_log_weights
from .objective.token_op import TokenOutput
from .packing import MicroBatch
from .policy import Policy


class Updates:
    """Makes a training step's updates at its learning rate, and under ``train.learning_rate_by_ess`` each at less where
    its responses are worth less."""

    def __init__(self, policy: Policy, config: Config, step: int) -> None:
        """``config``: the configuration in the stage of training step ``step``."""
        self._policy, self._rule = policy, config.train.learning_rate_by_ess
        self._rate = learning_rate(config, step)
        self._log_weights: list[Tensor] = []
        self._ess: list[float] = []
        self._norms: list[float] = []
        self._cosines: list[float] = []

    def saw(self, batch: MicroBatch, output: TokenOutput) -> None:
        """Take in a micro-batch of the update under way, with its ``output`` before the update."""
        if self._rule == "none":
            return
        # Before the first update of a step, the policy is π_old itself.
        old_T = output.logprobs_T.detach().cpu() if batch.old_logprobs_T is None else batch.old_logprobs_T
        self._log_weights.append(response_log_weights(old_T, batch.behaviour_logprobs_T, batch.responses_T))

    def make(self) -> None:
        """Update the policy by the gradients of the micro-batches that were seen. Collective. Raises what
        ``Policy.step`` raises."""
        factor = 1.0
        if self._rule != "none":
            self._ess.append(self._measured())
            factor = ess_factor(self._ess[-1], self._rule)
        self._policy.learn_at(self._rate * factor)
        self._norms.append(self._policy.step())
        if self._policy.gradients is not None:
            cosine = self._policy.gradients.cosine(self._policy.reduce)
            self._cosines += [] if cosine is None else [cosine]

    def _measured(self) -> float:
        """The effective sample size of the update's responses, as a share of their number."""
        log_weights_S = torch.cat(self._log_weights)
        self._log_weights = []
        own = log_weights_S.max() if len(log_weights_S) else torch.tensor(-torch.inf, dtype=torch.float64)
        largest = float(self._policy.reduce(own, largest=True))
        sums = torch.tensor(ess_sums(log_weights_S, largest), dtype=torch.float64)
        return ess_share(*self._policy.reduce(sums).tolist())

    def metrics(self) -> dict[str, float]:
        """Metrics by name: the gradients' norms, the step's learning rate, and where they are asked for, means over the
        updates of the gradients' cosine, the effective sample size, and the learning rate that was applied."""
        found = {
            "grad_norm": _mean(self._norms),
            "grad_norm_max": max(self._norms),
            "learning_rate": self._rate,
        }
        if self._cosines:
            found["grad_cosine"] = _mean(self._cosines)
        if self._rule != "none":
            factors = [ess_factor(ess, self._rule) for ess in self._ess]
            found["learning_rate/applied"] = self._rate * _mean(factors)
            found["logprob/response_ess"] = _mean(self._ess)
        return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
