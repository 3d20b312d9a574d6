"""What the page shows of a run's samples: the newest groups, and what responses of each staleness were given. Pure."""

from collections import deque
from typing import Any

from ...common.samples import Sample, SampledResponse, Segment
from ...common.texts import visible
from ..looking.samples import SHOWN, cut, heading, title

KEPT = 60
"""Groups that the page lists. ``leeway samples`` shows all."""


class Answers:
    """The samples of a run, as they come."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: the file was thinned, or a resume has undone steps, and all comes again."""
        self._groups: deque[Sample] = deque(maxlen=KEPT)
        self._by_staleness: dict[int, list[float]] = {}

    def take(self, sample: Sample) -> None:
        """Take in the next group."""
        self._groups.append(sample)
        for each in sample.responses:
            self._by_staleness.setdefault(_age(each), []).append(each.reward)

    def told(self) -> dict[str, Any]:
        """The list as the page takes it, the newest group first, without texts; and the rewards by staleness."""
        return {
            "groups": [
                {
                    "id": name_of(sample),
                    "title": title(sample),
                    "responses": [
                        {
                            "reward": each.reward,
                            "verdict": each.verdict,
                            "tokens": each.tokens,
                            "staleness": _age(each),
                            "finished": each.finished,
                        }
                        for each in sample.responses
                    ],
                }
                for sample in reversed(self._groups)
            ],
            "by_staleness": [
                {"staleness": age, "responses": len(rewards), "reward": sum(rewards) / len(rewards)}
                for age, rewards in sorted(self._by_staleness.items())
            ],
        }

    def texts(self, name: str) -> dict[str, Any] | None:
        """The texts of one listed group, long ones cut in the middle; None where it is not listed."""
        sample = next((each for each in self._groups if name_of(each) == name), None)
        if sample is None:
            return None
        return {
            "title": title(sample),
            "gold": cut(visible(" or ".join(sample.gold)), SHOWN),
            "prompt": _segments(sample.prompt),
            "responses": [
                {"heading": heading(each), "staleness": _age(each), "segments": _segments(each.segments)}
                for each in sample.responses
            ],
        }


def name_of(sample: Sample) -> str:
    """The group's name in the page's addresses: TICKET-INCARNATION."""
    return f"{sample.ticket}-{sample.incarnation}"


def _age(response: SampledResponse) -> int:
    """The staleness of a response's oldest token, in versions."""
    return int(response.staleness["max"])


def _segments(segments: tuple[Segment, ...]) -> list[dict[str, str]]:
    return [{"by": segment.by, "text": cut(visible(segment.text), SHOWN)} for segment in segments]
