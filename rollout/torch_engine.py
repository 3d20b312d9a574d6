"""The reference engine: transformers on the CPU, one group at a time, bit for bit reproducible.

It is slower than vLLM, and worth it where an equality is to be proved: the same weights and the same ticket give the
same ``Responses``, whatever else runs on the machine. Three things ensure that: a group is generated as one batch that
never changes shape, the uniform random numbers come from ``ticket.seed`` alone, and the number of threads is fixed.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedModel,
)

from ..common.errors import DataError, WeightsError
from ..common.large_imports import large_import
from ..common.preflight.folder import read_folder
from ..common.preflight.tokens import ends_of, load_tokenizer
from ..common.types import Responses, Ticket
from .engine import Aborted
from .environments import Conversations, EnvironmentHost, Turn
from .turns import Talk, segments


def end_tokens(model_path: str | Path) -> frozenset[int]:
    """The tokens that end a response: those that the folder's config, generation config or tokenizer calls eos. Raises
    ``DataError`` where there is none."""
    folder = read_folder(Path(model_path), weights=False)
    config = AutoConfig.from_pretrained(folder.path)
    keys = {**folder.keys, "eos_token_id": config.eos_token_id}  # transformers' own default, where it has one
    ends = ends_of(keys, folder.generation, load_tokenizer(model_path))
    if not ends:
        raise DataError(f"{model_path} names no end token: set eos_token_id in its generation_config.json")
    return frozenset(ends)


Sampled = tuple[list[np.ndarray], list[np.ndarray], list[bool]]
"""Three lists with one element per response: its tokens (int64, [length], end token included), their log-probabilities
under logits/τ (float32, nats, [length]), and whether an end token ended it."""


def sample_group(
    model: PreTrainedModel,
    ticket: Ticket,
    ends: Collection[int],
    weights_changed: Callable[[int], bool] = lambda _: False,
    *,
    recompute: bool = True,
    talk: Talk | None = None,
) -> Sampled:
    """``sample_groups`` for one ticket: its G responses are one batch, and a pure function of the weights and the
    ticket."""
    return sample_groups(model, [ticket], ends, weights_changed, recompute=recompute, talk=talk)[0]


@torch.inference_mode()
def sample_groups(
    model: PreTrainedModel,
    tickets: Sequence[Ticket],
    ends: Collection[int],
    weights_changed: Callable[[int], bool] = lambda _: False,
    *,
    recompute: bool = True,
    talk: Talk | None = None,
) -> list[Sampled]:
    """Sample every ticket's G responses, all as one batch. A pure function of the weights and the tickets.

    ``tickets`` agree in prompt length, G, token limit, τ and top_p. Each has random numbers of its own, so together
    they are sampled as each alone would be, up to how the matrix products of a larger batch round.

    ``weights_changed(t)`` is called before token ``t`` >= 1 of every response. It may put other weights into ``model``,
    and returns whether it did; keys and values of earlier tokens are then kept, or with ``recompute`` computed anew.
    ``talk``, where there are environments, says which tokens they write. Random numbers are drawn for those too, so
    that a row's do not depend on its neighbours' conversations.
    """
    shapes = {(len(t.prompt_tokens_P), t.group_size, t.max_new_tokens, t.temperature, t.top_p) for t in tickets}
    assert len(shapes) == 1, f"one batch of tickets of different shapes: {shapes}"
    prompt_length, G, longest, temperature, top_p = shapes.pop()
    end_ids = torch.tensor(sorted(ends))
    generators = [torch.Generator().manual_seed(ticket.seed) for ticket in tickets]
    cache = DynamicCache(config=model.config)
    input_ids = torch.from_numpy(np.stack([ticket.prompt_tokens_P.astype(np.int64) for ticket in tickets]))
    logits_SV = model(input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
    cache.batch_repeat_interleave(G)  # a prompt is read once, and its G rows share it
    input_ids, logits_SV = input_ids.repeat_interleave(G, dim=0), logits_SV.repeat_interleave(G, dim=0)

    talk = talk or Talk(len(input_ids), longest)
    steps, logprob_steps = list[torch.Tensor](), list[torch.Tensor]()
    lengths_S, running_S = torch.zeros(len(input_ids), dtype=torch.int64), torch.ones(len(input_ids), dtype=torch.bool)
    for t in range(longest):
        # A finished row stays in the batch, and its tokens are thrown away. With fewer rows the matrix products of
        # the others would round differently, and their tokens would depend on their neighbours' lengths.
        logprobs_SV = torch.log_softmax(logits_SV.float() / temperature, dim=-1)
        if top_p < 1:
            logprobs_SV = nucleus(logprobs_SV, top_p)
        token_S1 = drawn(logprobs_SV, generators)
        logprob_S1 = logprobs_SV.gather(-1, token_S1)
        sampled_S = talk.write(token_S1, logprob_S1)
        steps.append(token_S1)
        logprob_steps.append(logprob_S1)
        lengths_S += running_S
        running_S &= ~talk.answer(running_S & sampled_S & torch.isin(token_S1[:, 0], end_ids), steps)
        if not running_S.any() or t + 1 == longest:
            break
        new_S, first = token_S1, prompt_length + t
        if weights_changed(t + 1) and recompute:
            cache, first = DynamicCache(config=model.config), 0
            new_S = torch.cat([input_ids, *steps], dim=1)
        position_ids = torch.arange(first, prompt_length + t + 1)[None]
        logits_SV = model(
            input_ids=new_S, past_key_values=cache, position_ids=position_ids, use_cache=True, logits_to_keep=1
        ).logits[:, -1]

    rows = [_cut(each, lengths_S) for each in (steps, logprob_steps)]
    groups = [slice(G * number, G * (number + 1)) for number in range(len(tickets))]
    return [(rows[0][own], rows[1][own], talk.finished[own]) for own in groups]


def _cut(steps: list[torch.Tensor], lengths_S: torch.Tensor) -> list[np.ndarray]:
    """Of each row what came in its first ``lengths_S`` of ``steps`` ([S, 1] each)."""
    whole_ST = torch.cat(steps, dim=1).numpy()
    return [row[:length] for row, length in zip(whole_ST, lengths_S.tolist(), strict=True)]


def drawn(logprobs_SV: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Draw a token for each row: int64 [S, 1]. The rows come group by group, and each generator draws for one group."""
    cdf_SV, G = logprobs_SV.exp().cumsum(dim=-1), len(logprobs_SV) // len(generators)
    uniform_S1 = torch.cat([torch.rand(G, 1, generator=generator) for generator in generators])
    # right=True: the first token whose cdf exceeds u, so a token of probability 0 is never drawn. u < 1 keeps u·total
    # below the last entry, so the index stays inside the vocabulary.
    return torch.searchsorted(cdf_SV, uniform_S1 * cdf_SV[:, -1:], right=True)


def nucleus(logprobs_SV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Log-probabilities (nats) of the distribution cut down to the fewest tokens that together have ``top_p``, the
    likeliest first (Holtzman et al., 2020); -inf for the others."""
    sorted_SV, order_SV = logprobs_SV.sort(dim=-1, descending=True)
    before_SV = sorted_SV.exp().cumsum(dim=-1) - sorted_SV.exp()  # the probability of the likelier tokens together
    kept_SV = sorted_SV.masked_fill(before_SV >= top_p, -torch.inf)
    return torch.log_softmax(torch.empty_like(kept_SV).scatter_(-1, order_SV, kept_SV), dim=-1)


def as_responses(
    ticket: Ticket,
    sampled: Sampled,
    changes: Sequence[tuple[int, int]],
    *,
    worker: str,
    seconds: float,
    talked: tuple[Talk, Conversations] | None = None,
) -> Responses:
    """A group as it goes over the wire. ``changes``: (token, version), the version that sampled from that token on.
    ``seconds``: how long generation took. ``talked``: its conversations, where there were any."""
    tokens, logprobs, finished = sampled
    lengths = [len(t) for t in tokens]
    observed = sorted(talked[0].observed) if talked else []
    return Responses(
        group_id=ticket.group_id,
        tokens_T=np.concatenate(tokens).astype(np.uint32),
        logprobs_T=np.concatenate(logprobs),
        lengths_S=np.array(lengths, dtype=np.uint32),
        finished_S=np.array(finished, dtype=np.uint8),
        spans=np.array(_spans(changes, segments(lengths, observed)), dtype=np.uint32),
        worker=worker,
        seconds=seconds,
        observed=np.array(observed, dtype=np.uint32).reshape(-1, 3),
        environment_S=np.array(talked[1].rewards_S if talked else [], dtype=np.float64),
    )


class TorchEngine:
    """The ``Engine`` around one transformers model on the CPU.

    New weights are taken between two tokens of the group under way, which goes on under them. Its spans say from which
    token.
    """

    concurrency = 1

    def __init__(
        self,
        model_path: str | Path,
        *,
        dtype: str = "float32",
        worker: str,
        threads: int = 1,
        recompute: bool = True,
        environments: EnvironmentHost | None = None,
    ) -> None:
        """``model_path`` is a Hugging Face folder, of which config and tokenizer are used: the weights come by
        ``load``. ``dtype`` is the torch name of the type to compute in. ``threads`` is set for the whole process,
        since results depend on it. ``recompute``: whether the keys and values of a group under way are computed anew
        under new weights, or kept. ``environments``, where there are any, answer the policy's turns."""
        torch.set_num_threads(threads)
        path = Path(model_path)
        self.version = -1
        self._worker = worker
        self._recompute = recompute
        self._environments = environments
        self._ends = end_tokens(path)
        with large_import():  # of the model's own code
            self._model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                AutoConfig.from_pretrained(path), dtype=getattr(torch, dtype), attn_implementation="sdpa"
            ).eval()
        self._one_group = threading.Lock()
        self._change = threading.Condition()
        """Guards the attributes below. It is notified when the weights in ``waiting``, which ``load`` has put there,
        have been taken."""
        self.waiting: _Weights | None = None
        self._under_way: str | None = None
        self._idle = self._taken = self._aborted = False
        """Of the group under way: whether it waits for its environments, whether weights have been taken since its last
        token, and whether it is to be stopped before its next one."""

    def load(
        self,
        version: int,
        tensors: Mapping[str, torch.Tensor],
        file: Path | None = None,
    ) -> float:
        """Take new weights, all or none, before the next token. Returns the seconds in which no token could be sampled.

        ``tensors`` are CPU tensors of any float dtype under the Hugging Face names; one of several tied names is
        enough. A version below the present one waits for the end of the group under way, because versions never fall
        within a response. Raises ``WeightsError`` where the tensors do not fit the model.
        """
        weights = _Weights(version, _match(self._model, tensors), tensors)
        with self._change:
            assert self.waiting is None, "load is called from one thread"
            self.waiting = weights
            if self._under_way is None or self._idle:
                self._take(no_older=self._idle)
            self._change.wait_for(lambda: self.waiting is None)
        return weights.seconds

    def generate(self, ticket: Ticket) -> Responses:
        """Sample the ticket's G responses as one batch. Raises ``EnvironmentFailed`` where an environment has."""
        with self._one_group:
            with self._change:
                assert self.version >= 0, "generate before the first load"
                self._under_way, self._idle, self._aborted = ticket.group_id, True, False
            try:
                if self._environments is None:
                    return self._sampled(ticket)
                with self._environments.open(ticket) as conversations:
                    return self._sampled(ticket, conversations)
            finally:
                with self._change:
                    self._under_way, self._idle = None, False
                    self._take()

    def _sampled(self, ticket: Ticket, conversations: Conversations | None = None) -> Responses:
        """``generate``'s responses, in ``conversations`` with the environments where there are any."""
        with self._change:
            self._idle = self._taken = False
            changes = [(0, self.version)]
        start, talk, talked = time.perf_counter(), None, None
        if conversations is not None:
            talk = Talk(ticket.group_size, ticket.max_new_tokens, partial(self._step, conversations))
            talked = talk, conversations
        sampled = sample_group(
            self._model, ticket, self._ends, lambda t: self._changed(t, changes), recompute=self._recompute, talk=talk
        )
        seconds = time.perf_counter() - start
        return as_responses(ticket, sampled, changes, worker=self._worker, seconds=seconds, talked=talked)

    def _step(self, conversations: Conversations, turns: Mapping[int, Sequence[int]]) -> dict[int, Turn]:
        """``Step``: what the environments answer. Weights that come meanwhile are taken at once, so that who brings
        them does not wait for an environment."""
        steps = {response: conversations.step(response, tokens) for response, tokens in turns.items()}
        for step in steps.values():
            step.add_done_callback(self._wake)
        with self._change:
            self._idle = True
            self._take(no_older=True)
            self._change.wait_for(lambda: self._aborted or all(step.done() for step in steps.values()))
            self._idle = False
            if self._aborted:
                raise Aborted
        return {response: step.result() for response, step in steps.items()}

    def _wake(self, _: Future[Turn]) -> None:
        with self._change:
            self._change.notify_all()

    def abort(self, group_id: str) -> None:
        """Stop the group before its next token, if it is the one under way."""
        with self._change:
            self._aborted |= self._under_way == group_id
            self._change.notify_all()

    def _changed(self, token: int, changes: list[tuple[int, int]]) -> bool:
        """Take weights that wait before token ``token`` of the group under way, and add that to ``changes``. Returns
        whether there were any since the token before."""
        with self._change:
            if self._aborted:
                raise Aborted
            self._take(no_older=True)
            if not self._taken:
                return False
            self._taken = False
        changes.append((token, self.version))
        return True

    def _take(self, *, no_older: bool = False) -> None:
        """Put the weights that wait, if any, into the model; with ``no_older``, not those of a lower version. The
        caller holds ``_change``."""
        if self.waiting is not None and not (no_older and self.waiting.version < self.version):
            started = time.perf_counter()
            with torch.no_grad():
                for name, target in self.waiting.targets.items():
                    target.copy_(self.waiting.tensors[name])
            self.version = self.waiting.version
            self.waiting.seconds = time.perf_counter() - started
            self.waiting, self._taken = None, True
            self._change.notify_all()

    def close(self) -> None:
        """Do nothing: the memory is freed with the object."""


@dataclass(slots=True)
class _Weights:
    """A version on its way into the model."""

    version: int
    targets: dict[str, torch.Tensor]
    tensors: Mapping[str, torch.Tensor]
    seconds: float = 0.0


def _spans(
    changes: Sequence[tuple[int, int]], sampled: Sequence[tuple[int, int, int]]
) -> list[tuple[int, int, int, int]]:
    """The spans as rows (response, version, start, end). All responses change versions at the same ``changes``, which
    are (token, version); ``sampled`` are the tokens that are the policy's, as (response, start, end)."""
    rows = []
    for response, begins, ends in sampled:
        for number, (token, version) in enumerate(changes):
            until = changes[number + 1][0] if number + 1 < len(changes) else ends
            if max(begins, token) < min(ends, until):
                rows.append((response, version, max(begins, token), min(ends, until)))
    return rows


def _match(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pair every given name with the model's tensor. Raises ``WeightsError`` where one does not fit. Nothing is written
    yet, so a refused version leaves the old one whole."""
    targets = model.state_dict()
    unknown = sorted(tensors.keys() - targets.keys())
    if unknown:
        raise WeightsError(f"weights name {len(unknown)} tensors the model does not have: {', '.join(unknown[:5])}")
    # Tied tensors share storage under several names (lm_head and the embedding), so any of them fills all.
    given = {targets[name].data_ptr() for name in tensors}
    missing = sorted(name for name, target in targets.items() if target.data_ptr() not in given)
    if missing:
        raise WeightsError(f"weights lack {len(missing)} tensors of the model: {', '.join(missing[:5])}")
    for name, tensor in tensors.items():
        if tensor.shape != targets[name].shape:
            raise WeightsError(f"{name} has shape {tuple(tensor.shape)}, the model wants {tuple(targets[name].shape)}")
    return {name: targets[name] for name in tensors}
