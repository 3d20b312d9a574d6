"""The report's ablations, scaled down: what the report found, what is claimed of the toy, and what we expected."""

from .collapse import ADAPTIVE_ENTROPY, CLIP_HIGHER, CONSTANT_ALPHA, OFF2, OFF_POLICY, ON, ROLLOUT_BATCH, UPDATES, each
from .study import ADAPTIVE, ALIKE, KEPT, TARGET, Setting, Study
from .verdict import Claim

STAGED_T = 20
"""Tokens of a response. The shortest sums fit with a token to spare, sums of three columns do not."""
STAGED = Setting(
    name="T 20, then 40",
    sets=(f"train.max_response_tokens={STAGED_T}", "stages=[{from_step=25,max_response_tokens=40}]"),
)

STAGES = Study(
    name="stages",
    title="Context length in stages",
    question="Does a short context first, then a longer one, reach the same accuracy for less generation?",
    source="3.2.2, ablation 2",
    finding="the same accuracy, about 100 hours less per 1,000 steps; responses are shorter first and grow again.",
    here="T 20 for 25 steps and then 40, against 40 throughout; (1,16,16,1), no entropy control. A toy response has 19 "
    "to 22 tokens, and its form leaves little room to be shorter, so T 20 cuts a part of the sums off rather than a "
    "habit of thinking long.",
    settings=(ON, STAGED),
    claims=(
        Claim(
            text="the accuracies at the end are no more than 0.02 apart",
            metric="accuracy",
            of=each((STAGED,), ON),
            low=-ALIKE,
            high=ALIKE,
            predicted="agrees",
        ),
        Claim(
            text="fewer tokens are generated",
            metric="generated",
            of=each((STAGED,), ON),
            high=0.0,
            predicted="undecided",
        ),
    ),
    metrics=("accuracy", "accuracy halfway", "entropy", "generated", "length"),
    panels=("generated/length_mean", "generated/truncated_share", "evaluation/reward"),
)


def _masked(mask: str) -> Setting:
    sets = (f"objective.advantage_mask={mask}",) if mask != "none" else ()
    short = ("train.minibatch_groups=8", f"train.max_response_tokens={STAGED_T}")
    return Setting(name=f"mask {mask}", sets=(ADAPTIVE, *short, *sets))


MASKS = {mask: _masked(mask) for mask in ("none", "before", "after")}

ADVANTAGE_MASK = Study(
    name="advantage-mask",
    title="Advantage masks for truncated responses",
    question="Is it better not to punish a response for having been cut off?",
    source="3.2.3, ablation 3",
    finding="with `before` the truncated share rises and accuracy in training declines; at 32K neither mask is better.",
    here="(2,16,8,1), target entropy as in the report, T 20; accuracy is measured with 64 tokens: nothing is cut.",
    settings=tuple(MASKS.values()),
    claims=(
        Claim(
            text="with `before`, more is truncated than without a mask",
            metric="truncated",
            of=each((MASKS["before"],), MASKS["none"]),
            low=0.0,
            predicted="agrees",
        ),
        Claim(
            text="with room enough, no mask is better than none by more than 0.02",
            metric="accuracy",
            of=each((MASKS["before"], MASKS["after"]), MASKS["none"]),
            high=ALIKE,
            predicted="agrees",
        ),
    ),
    metrics=("accuracy", "accuracy halfway", "entropy", "truncated", "length"),
    panels=("generated/truncated_share", "generated/length_mean", "evaluation/reward"),
)

COLD = Setting(name="τ 0.6", sets=("train.minibatch_groups=8", "flow.temperature=0.6"))

TEMPERATURE = Study(
    name="temperature",
    title="Sampling temperature",
    question="Does sampling at τ 0.6 start with too little entropy and stall?",
    source="3.2.4, ablation 4",
    finding="at 0.6 entropy starts near zero or collapses within about 100 steps and learning stalls; 1.0 is slower at "
    "first and learns longer.",
    here="(2,16,8,1) as in the report, but without its target entropy, which would hide what τ does. Accuracy is "
    "measured at τ = 1 for both.",
    settings=(OFF2, COLD),
    claims=(
        Claim(
            text="at 0.6 the first step's entropy is below half of the target",
            metric="first e_k",
            of=each((COLD,), None),
            high=TARGET / 2,
            predicted="agrees",
        ),
        Claim(
            text="at 0.6 it ends with less entropy than 1.0, each at its own τ",
            metric="batch entropy",
            of=each((COLD,), OFF2),
            high=0.0,
            predicted="agrees",
        ),
        Claim(
            text="at 0.6 it ends less accurate",
            metric="accuracy",
            of=each((COLD,), OFF2),
            high=0.0,
            predicted="agrees",
        ),
    ),
)


def _pulled(beta: float) -> Setting:
    sets = (f"objective.kl_beta={beta}", "objective.kl_groups=all") if beta else ()
    return Setting(name=f"β {beta:g}", sets=("train.minibatch_groups=8", ADAPTIVE, *sets))


KLS = {beta: _pulled(beta) for beta in (0.0, 1e-3, 0.1)}

KL = Study(
    name="kl",
    title="A KL term against the initial model",
    question="Does a KL term hold the policy back?",
    source="3.2.6, ablation 5",
    finding="with β 1e-3 in stage 2 the policy is pulled back to the reference, and accuracy stops improving.",
    here="(2,16,8,1), adaptive control as in the report, k3 over all groups. At 50 steps β 1e-3 can hardly matter: 0.1 "
    "is there to see the effect.",
    settings=tuple(KLS.values()),
    claims=(
        Claim(
            text="β 1e-3 changes the accuracy by no more than 0.02 (it is too small for 50 steps)",
            metric="accuracy",
            of=each((KLS[1e-3],), KLS[0.0]),
            low=-ALIKE,
            high=ALIKE,
            predicted="undecided",
        ),
        Claim(
            text="β 0.1 keeps the policy nearer to the initial model than β 1e-3",
            metric="kl",
            of=each((KLS[0.1],), KLS[1e-3]),
            high=0.0,
            predicted="agrees",
        ),
        Claim(
            text="β 0.1 ends less accurate than β 0",
            metric="accuracy",
            of=each((KLS[0.1],), KLS[0.0]),
            high=0.0,
            predicted="agrees",
        ),
    ),
    metrics=("accuracy", "accuracy halfway", "entropy", "kl", "coefficient"),
    panels=("kl/reference", "evaluation/entropy", "evaluation/reward"),
    target=TARGET,
)


def _cell(groups: int, size: int) -> Setting:
    sets = [f"train.groups_per_step={groups}"] if groups != 16 else []
    sets += [f"train.group_size={size}"] if size != 8 else []
    return Setting(name=f"D_R {groups}, G {size}", sets=tuple(sets), line=f"G {size}", x=groups)


GRID = {(groups, size): _cell(groups, size) for groups in (4, 8, 16) for size in (4, 8, 16)}

DIVERSITY = Study(
    name="rollout-diversity",
    title="Groups a batch and responses a group, on-policy",
    question="Do a smaller rollout batch or smaller groups take entropy, on-policy?",
    source="4.3, figure 14",
    finding="for D_R of 16, 32, 64 and G of 4, 8, 16 the entropies are alike, and none collapses.",
    here="D_R a quarter of the report's, G the report's.",
    settings=tuple(GRID.values()),
    claims=(
        Claim(
            text=f"none collapses: each keeps more than {KEPT} of the initial entropy",
            metric="entropy kept",
            of=each(tuple(GRID.values()), None),
            low=KEPT,
            predicted="agrees",
        ),
        Claim(
            text="the smallest and the largest are no more than 0.02 apart",
            metric="entropy",
            of=each((GRID[4, 4],), GRID[16, 16]),
            low=-ALIKE,
            high=ALIKE,
            predicted="undecided",
        ),
    ),
    x_label="D_R, groups a batch",
)

ABLATIONS = (
    UPDATES, OFF_POLICY, CONSTANT_ALPHA, ADAPTIVE_ENTROPY, ROLLOUT_BATCH, CLIP_HIGHER, STAGES, ADVANTAGE_MASK,
    TEMPERATURE, KL, DIVERSITY,
)  # fmt: skip
