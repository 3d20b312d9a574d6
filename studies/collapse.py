"""The report's ablations of what makes entropy collapse, and of what holds it: updates, batches, bonus, clip."""

from .study import ADAPTIVE, ALIKE, FOUR, HELD, KEPT, MORE_SEEDS, TARGET, Setting, Study, quadruple
from .verdict import Claim

ON = quadruple(1, 16, 16, 1)
OFF2, OFF4 = quadruple(2, 16, 8, 1), quadruple(4, 16, 4, 1)
REUSE2, REUSE4 = quadruple(2, 16, 16, 2), quadruple(4, 16, 16, 4)
MORE_UPDATES = (OFF2, REUSE2, OFF4, REUSE4)


def each(settings: tuple[Setting, ...], other: Setting | None) -> tuple[tuple[str, str | None], ...]:
    """The names of what a claim compares: each of ``settings`` with ``other``, or each by itself."""
    return tuple((setting.name, other.name if other else None) for setting in settings)


UPDATES = Study(
    name="updates",
    seeds=MORE_SEEDS,
    title="More SGD updates a training step",
    question="Do more SGD updates on a rollout batch, by smaller mini-batches or by reuse, take entropy and accuracy?",
    source="4.4, ablation 6",
    finding="with N_SGD of 2 or 4 entropy falls faster, to very small values, and final accuracy is worse than with 1.",
    here="the report's D_R and D_T divided by 4. Every update has the same learning rate, as in the report, so more "
    "updates also go further.",
    settings=(ON, *MORE_UPDATES),
    claims=(
        Claim(
            text="N_SGD 2 and 4 end with less entropy than 1",
            metric="entropy",
            of=each(MORE_UPDATES, ON),
            high=0.0,
            predicted="agrees",
        ),
        Claim(
            text=f"N_SGD = 4 collapses: it keeps less than {KEPT} of the initial entropy",
            metric="entropy kept",
            of=each((OFF4, REUSE4), None),
            high=KEPT,
            predicted="agrees",
        ),
        Claim(
            text="N_SGD 2 and 4 end with a lower accuracy than 1",
            metric="accuracy",
            of=each(MORE_UPDATES, ON),
            high=0.0,
            predicted="disagrees",
        ),
    ),
)

SMALL2, SMALL4 = quadruple(1, 8, 8, 1), quadruple(1, 4, 4, 1)
LONG2, LONG4 = quadruple(1, 8, 8, 1, times=2), quadruple(1, 4, 4, 1, times=4)

OFF_POLICY = Study(
    name="off-policy",
    title="Off-policy data, or the small mini-batch?",
    question="Where a rollout batch is cut into mini-batches, what does the harm: that they are small, or that all but "
    "the first are off-policy?",
    source="4.4, ablation 7",
    finding="on-policy with the same small D_T improves steadily and its entropy does not collapse; off-policy it "
    "does, and ends less accurate. So off-policy data does the harm.",
    here="(2,16,8,1) against (1,8,8,1), (4,16,4,1) against (1,4,4,1). At equal training steps, as the report compares, "
    "the off-policy run has also made 2 or 4 times the updates on 2 or 4 times the data. So there is a second pair "
    "that the report does not have: on-policy for 2 or 4 times the steps, equal in mini-batch, updates and data.",
    settings=(OFF2, SMALL2, LONG2, OFF4, SMALL4, LONG4),
    claims=(
        Claim(
            text="at equal training steps, off-policy ends with less entropy than on-policy with the same mini-batch",
            metric="entropy",
            of=((OFF2.name, SMALL2.name), (OFF4.name, SMALL4.name)),
            high=0.0,
            predicted="agrees",
        ),
        Claim(
            text=f"on-policy with a small mini-batch does not collapse: it keeps over {KEPT} of the initial entropy",
            metric="entropy kept",
            of=each((SMALL2, SMALL4), None),
            low=KEPT,
            predicted="agrees",
        ),
        Claim(
            text="at equal updates and data too, off-policy ends with less entropy, by more than 0.02",
            metric="entropy",
            of=((OFF2.name, LONG2.name), (OFF4.name, LONG4.name)),
            high=-ALIKE,
            predicted="disagrees",
        ),
        Claim(
            text="at equal training steps, off-policy ends less accurate",
            metric="accuracy",
            of=((OFF2.name, SMALL2.name), (OFF4.name, SMALL4.name)),
            high=0.0,
            predicted="disagrees",
        ),
    ),
)

LARGE = quadruple(4, 64, 16, 1)

ROLLOUT_BATCH = Study(
    name="rollout-batch",
    title="A larger rollout batch, off-policy",
    question="Does a larger, more diverse rollout batch prevent collapse where four updates are made on it?",
    source="4.4, figure 18",
    finding="(4,256,64,1) collapses as (4,64,16,1) does, if anything faster.",
    here="(4,64,16,1) against (4,16,4,1): as many updates, four times the data.",
    settings=(ON, OFF4, LARGE),
    claims=(
        Claim(
            text=f"(4,64,16,1) collapses too: it keeps less than {KEPT} of the initial entropy",
            metric="entropy kept",
            of=each((LARGE,), None),
            high=KEPT,
            predicted="agrees",
        ),
        Claim(
            text="(4,64,16,1) does not end with more entropy than (4,16,4,1) by more than 0.02",
            metric="entropy",
            of=each((LARGE,), OFF4),
            high=ALIKE,
            predicted="agrees",
        ),
    ),
)

ALPHAS = (0.001, 0.01, 0.1, 1.0)
CONSTANT = tuple(
    Setting(
        name=f"α {alpha:g}",
        sets=("train.minibatch_groups=8", "entropy.control=constant", f"entropy.alpha={alpha}"),
    )
    for alpha in ALPHAS
)

CONSTANT_ALPHA = Study(
    name="constant-alpha",
    title="A constant entropy coefficient",
    question="Is there a constant α that keeps the entropy where it should be?",
    source="4.5, ablation 8",
    finding="with α of 5e-4 and more entropy explodes, with 1e-4 it collapses: no constant works.",
    here="(2,16,8,1), the report's (2,64,32,1). The α that matter are larger here: the vocabulary has 21 tokens "
    "instead of 152,064, and 50 steps have to do what 2,700 did.",
    settings=(OFF2, *CONSTANT),
    claims=(
        Claim(
            text="the smallest α lets the entropy fall as none does, to no more than 0.02 above it",
            metric="entropy",
            of=each((CONSTANT[0],), OFF2),
            high=ALIKE,
            predicted="agrees",
        ),
        Claim(
            text="the largest α makes the entropy explode: above twice the target",
            metric="entropy",
            of=each((CONSTANT[-1],), None),
            low=2 * TARGET,
            predicted="agrees",
        ),
        Claim(
            text="where it explodes, accuracy is lost",
            metric="accuracy",
            of=each((CONSTANT[-1],), OFF2),
            high=0.0,
            predicted="agrees",
        ),
    ),
    target=TARGET,
)

CONTROLLED2, CONTROLLED4 = (
    Setting(name=f"{each.name}, adaptive", sets=(*each.sets, ADAPTIVE)) for each in (OFF2, OFF4)
)

ADAPTIVE_ENTROPY = Study(
    name="adaptive-entropy",
    seeds=MORE_SEEDS,
    title="Adaptive entropy control",
    question="Does the adaptive coefficient prevent the collapse that four updates a step bring, and is it steady?",
    source="4.5, ablation 9, and 3.2.5",
    finding="it prevents collapse and gives better accuracy; with a large N_SGD the entropy is unsteady.",
    here=f"(4,16,4,1), the report's (4,64,16,1), and (2,16,8,1); target {TARGET}, Δ 0.005 as in the report.",
    settings=(OFF2, CONTROLLED2, OFF4, CONTROLLED4),
    claims=(
        Claim(
            text="without control (4,16,4,1) ends with an e_k below half of the target",
            metric="batch entropy",
            of=each((OFF4,), None),
            high=TARGET / 2,
            predicted="agrees",
        ),
        Claim(
            text="with control it ends with an e_k within 20 % of the target",
            metric="batch entropy",
            of=each((CONTROLLED4,), None),
            low=HELD[0],
            high=HELD[1],
            predicted="agrees",
        ),
        Claim(
            text="control gives better accuracy",
            metric="accuracy",
            of=each((CONTROLLED4,), OFF4),
            low=0.0,
            predicted="disagrees",
        ),
        Claim(
            text="under control, N_SGD = 4 is less steady than N_SGD = 2",
            metric="swing",
            of=each((CONTROLLED4,), CONTROLLED2),
            low=0.0,
            predicted="undecided",
        ),
    ),
    metrics=("accuracy", "accuracy halfway", "entropy", "batch entropy", "swing", "coefficient"),
    panels=("evaluation/entropy", "entropy/coefficient", "evaluation/reward"),
    target=TARGET,
)

FAST = "train.learning_rate=3e-4"


def _higher(bound: float) -> Setting:
    sets = (f"objective.clip_high={bound}",) if bound != 0.2 else ()
    return Setting(name=f"ε_high {bound:g}", sets=(*FOUR, FAST, *sets))


HIGHER = {bound: _higher(bound) for bound in (0.2, 0.25, 0.265, 0.28, 1.0)}

CLIP_HIGHER = Study(
    name="clip-higher",
    title="Clip-higher",
    question="Does a higher upper clip keep the entropy, and where does it turn?",
    source="4.5, ablation 10",
    finding="on (4,64,16,1), ε_high 0.25 and 0.265 prevent collapse and help accuracy; at 0.28 entropy rises sharply.",
    here="(4,16,4,1) with a learning rate of 3e-4: with the base's the clip takes the gradient of 0.04 % of the "
    "tokens, too few for its bound to matter. 1.0 is not the report's: it says what it would take here.",
    settings=tuple(HIGHER.values()),
    claims=(
        Claim(
            text="0.25 and 0.265 end with more entropy than 0.20",
            metric="entropy",
            of=each((HIGHER[0.25], HIGHER[0.265]), HIGHER[0.2]),
            low=0.0,
            predicted="undecided",
        ),
        Claim(
            text="at 0.28 the entropy explodes: above twice the target",
            metric="entropy",
            of=each((HIGHER[0.28],), None),
            low=2 * TARGET,
            predicted="disagrees",
        ),
        Claim(
            text="a much higher clip, 1.0, ends with more entropy than 0.20",
            metric="entropy",
            of=each((HIGHER[1.0],), HIGHER[0.2]),
            low=0.0,
            predicted="agrees",
        ),
    ),
    metrics=("accuracy", "accuracy halfway", "entropy", "batch entropy", "clipped"),
)
