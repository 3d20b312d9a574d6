"""The run's configuration: every key, its default and its meaning.

Sections stand in files of their own, each with its checks; ``stages`` says what may change at a training step, and
``whole`` puts them together.
``composing`` reads presets and ``--set``. Unknown keys are refused with a suggestion. An error names the key, the
value, where it stands (``locating``), and what would be right.
"""

from .checkpoints import Checkpoints
from .composing import compose, config_in, dump, parse, preset_names, text_in, toml_in
from .data import Data, judging, source_named
from .environment import Environment
from .flow import Flow, MaxStaleness, Overflow, PipelineDepth, refuse_below_lag, refuse_shallow
from .objective import Baseline, Deviation, Entropy, Level, Loss, Mask, Objective
from .placement import Placement
from .rewards import Reward, ability_of
from .section import PRESETS, expand
from .serving import Broker, Metrics, Rollout, Tracker, Verifier
from .training import LearningRateByEss, Model, Train
from .whole import Config, known_keys, section_of

__all__ = [
    "PRESETS",
    "Baseline",
    "Broker",
    "Checkpoints",
    "Config",
    "Data",
    "Deviation",
    "Entropy",
    "Environment",
    "Flow",
    "LearningRateByEss",
    "Level",
    "Loss",
    "Mask",
    "MaxStaleness",
    "Metrics",
    "Model",
    "Objective",
    "Overflow",
    "PipelineDepth",
    "Placement",
    "Reward",
    "Rollout",
    "Tracker",
    "Train",
    "Verifier",
    "ability_of",
    "compose",
    "config_in",
    "dump",
    "expand",
    "judging",
    "known_keys",
    "parse",
    "preset_names",
    "refuse_below_lag",
    "refuse_shallow",
    "section_of",
    "source_named",
    "text_in",
    "toml_in",
]
