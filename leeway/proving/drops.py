"""What the audit knows of prompts that a run has dropped because they were solved."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Drops:
    """The prompts that no new ticket may ask."""

    prompt_ids: set[str] = field(default_factory=set)

    def look(self, line: dict[str, Any], version: int, next_ticket: int) -> str | None:
        """Take a ``sampling`` line into account. Returns what is wrong with it, or None."""
        if line["version"] != version:
            return f"at version {line['version']}, the books stand at {version}"
        if line["ticket"] != next_ticket:
            return f"holds from ticket {line['ticket']} on, {next_ticket} is next"
        if twice := sorted(self.prompt_ids & {*line["dropped"]}):
            return f"prompt {twice[0]} is dropped twice"
        self.prompt_ids |= {*line["dropped"]}
        return None

    def asked(self, line: dict[str, Any]) -> str | None:
        """What is wrong with the prompt of a new ticket. An operator may have a dropped one asked again."""
        dropped = line["prompt"] in self.prompt_ids and "retry_of" not in line
        return f"ticket {line['ticket']} asks prompt {line['prompt']}, which was dropped before" if dropped else None
