"""What the plain loop in one process (``examples/one_process.py``), which ``leeway prove`` compares with, can run."""

from .whole import Config


def why_not_plain(config: Config) -> str | None:
    """Why the plain loop would not compute this run; None if it would. Pure."""
    objective, train = config.objective, config.train
    if (updates := max(view.train.updates_per_step for view in config.views())) > 1:
        return f"it makes one update a training step, not {updates} (train.minibatch_groups, train.reuse)"
    if config.references:
        return "it holds no reference model; objective.kl_beta = 0 and metrics.kl_every = 0 need none"
    if {objective.ratio_level, objective.correction_level} != {"token"}:
        return (
            f"it takes no ratios or weights of whole responses (objective.loss = {objective.loss!r}, "
            f"objective.correction_level = {objective.correction_level!r})"
        )
    if train.learning_rate_by_ess != "none":
        return f"it knows no train.learning_rate_by_ess = {train.learning_rate_by_ess!r}; 'none' is right"
    return None
