"""Where a forked run comes from, as the first line of its ledger says: ``leeway fork`` writes it there."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .config import Config
from .json_text import line_of_ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A checkpoint of another run that a run started from, and what was changed there."""

    run: str
    step: int
    """Training steps that the other run had made."""
    checksum: str | None
    """That of the weights, as the other run's ledger has it; None for a version that the ledger does not publish, which
    is the one that a learner starts with."""
    ledger_line: int
    """How far the other run's ledger goes for that checkpoint."""
    chain: str
    """The chain of that line, which no other history has."""
    changed: dict[str, list[Any]]
    """By key of the configuration: the value before and the value from here on."""

    def describe(self) -> str:
        """One line for a person."""
        weights = "" if self.checksum is None else f" (weights {self.checksum[:12]})"
        turned = [f"{key} {_short(before)} -> {_short(now)}" for key, (before, now) in self.changed.items()]
        return f"run {self.run}, step {self.step}{weights}; {', '.join(turned) or 'nothing changed'}"


def lineage_in(line: dict[str, Any]) -> list[Ancestor]:
    """The ancestors that the ledger's first ``line`` names, the nearest first; none for a run that began by itself."""
    return [Ancestor(**each) for each in line.get("lineage", [])]


def lineage_of(folder: Path) -> list[Ancestor]:
    """``lineage_in`` the ledger of the run in ``folder``. Whether the ledger is sound is the audit's to judge."""
    try:
        with (folder / "ledger.jsonl").open("rb") as file:
            return lineage_in(line_of_ours(file.readline()))
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return []


def as_json(lineage: list[Ancestor]) -> list[dict[str, Any]]:
    """What the ledger has of a lineage."""
    return [asdict(each) for each in lineage]


def changes(before: Config, now: Config) -> dict[str, list[Any]]:
    """``section.key`` of every key whose value differs, with both values as JSON. What is a list counts as one key."""
    found = {}
    old, new = (_by_key(config) for config in (before, now))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            found[key] = [old.get(key), new.get(key)]
    return found


def _by_key(config: Config) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for section, held in config.model_dump(mode="json").items():
        own = {f"{section}.{key}": value for key, value in held.items()} if isinstance(held, dict) else {section: held}
        values |= own
    return values


def _short(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
