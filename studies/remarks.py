"""What was found in the runs afterwards, by study: what nobody had predicted, and what limits a verdict.

This was written after the runs, from the CSV files in docs/studies; tests/studies/test_recorded.py checks the figures.
The claims and predictions, in the catalogue, were written before the runs.
"""

SEEN = {
    "constant-alpha": """\
with α 0.1 e_k starts at 0.20, and from the ninth step on it is within 20 % of the target but for one step of
one seed; its last third is 0.159 ± 0.006. Accuracy is 0.827 ± 0.012 with it and 0.880 ± 0.004 without. So one
of these four constants holds the entropy for 50 steps. Nobody tried it for longer.""",
    "adaptive-entropy": """\
with control (2,16,8,1) ends with an e_k of 0.118 ± 0.012. Whether that is within 20 % of the target is
undecided; no claim had been made about it.""",
    "temperature": """\
at τ 1 the cold run ends with *more* entropy than the other: 0.104 against 0.076, a difference of 0.028 ± 0.013.
The second claim compares e_k, each at its own τ, and a lower τ makes the entropy of any policy smaller.""",
    "staleness": """\
at lag 16 the decoupled loss breaks down without control. Its accuracy is 0.304 ± 0.359, where the coupled one
has 0.767 ± 0.013, and its entropy is 0.129 ± 0.104 above that of lag 0. At lag 8 a breakdown is not shown: the
difference to the coupled loss is −0.136 ± 0.255, and two seeds of five are as good as any. With adaptive
control it is −0.305 ± 0.264 at lag 8. At lag 1 the decoupled loss is behind the coupled one by 0.035 ± 0.021,
at lag 2 by 0.016 ± 0.020. One reason may be that at one update a step π_θ = π_old, so that its clip never acts,
and only the cut at 2 of π_old/μ bounds a step on old data. No run tests this reason.""",
}
"""What the runs show besides, which nobody had predicted."""

LIMITS = {
    "staleness": """\
AReaL makes several updates a step; these runs make one, at one learning rate, and say nothing of several.
Adaptive control holds e_k with the coupled loss. With the decoupled one that is not shown: e_k is 0.184 ± 0.081
at lag 8 and 0.188 ± 0.031 at lag 16. Control has a price: with the coupled loss accuracy is lower by 0.046 ±
0.039 at lag 0 and by 0.111 ± 0.041 at lag 4.""",
    "overflow": """\
Three of the four verdicts are undecided. Three seeds do not tell the policies apart in accuracy or entropy.""",
    "off-policy": """\
The third verdict rests on N_SGD 2 alone. At N_SGD 4 the interval is [−0.023, +0.0015]. It holds 0 as well as
−0.02, so it is undecided whether off-policy data takes more than 0.02 nats there. At equal training steps the
differences are 0.029 (N_SGD 2) and 0.054 (N_SGD 4); at equal updates and data they are 0.000 and 0.011 in the
mean. So most of the difference goes with the number of updates. What is left at N_SGD 4 may be nothing, or as
much as 0.023.""",
    "adaptive-entropy": """\
These runs have 50 steps. They do not show whether control prevents a collapse in longer ones.""",
    "clip-higher": """\
The runs do not show whether clip-higher does anything to the entropy here. The differences are 0.001 to 0.013,
with intervals of ±0.04 to ±0.06. Even at this learning rate the clip takes the gradient of only 0.4 % of the
tokens; at the base's it is 0.04 % ([updates](updates.md)).""",
    "stages": """\
The setting is not the report's. Its two runs have batch 64, mini-batch 32 and target entropy 0.2, which would
be (2,16,8,1) with control here; these are at (1,16,16,1) without control. Nor do the runs say anything of the
report's saving. T 20 cuts off 26 % of the responses in the first 25 steps, and a response that is cut off is
wrong. So more groups have no signal, 24 instead of 17 are sampled for a batch, and more tokens are generated.
In the report the responses become shorter, which these cannot.""",
    "advantage-mask": """\
The runs do not show that the masks are alike. Three seeds leave intervals of ±0.02 to ±0.08, wider than the
0.02 that was asked about. The report's batch is 256, and it has fewer responses left under `before`; here the
batch is 16.""",
    "temperature": """\
The runs do not show that τ 0.6 learns less from as much data. At 0.6 the model is nearly always right: the
reward on its own samples is 0.93 to 0.97 in the first step and 0.993 to 0.995 in the last third. So nearly
every group is all right and has no signal. In 42 or 43 of the 50 steps the cold run sampled 96 groups, at which
the loop gives up, and trained the few that had one. A group with a signal has a wrong response, so it trained
at most 438 to 457 groups; the other run trained 800. It generated 4.3 to 4.4 times the tokens. Nor do the runs
show that it is the worse policy at the τ it was trained for: accuracy is measured at τ 1 alone, and no run was
evaluated at 0.6. The report saw entropy collapse and learning come to a halt; here accuracy still rises at the
end.""",
    "kl": """\
The runs do not show that a KL term costs accuracy. With β > 0 a batch is the 16 oldest groups, with a signal or
without. With β 0 it is 16 groups with a signal, for which 20 are sampled on average. So β 0.1 against β 0 also
compares fewer groups with a signal. The clean contrast is β 0.1 against β 0.001, which differ in β alone: there
the difference in accuracy is −0.005 ± 0.009, so nothing is shown. In the report the policy has left the
reference when the term comes, in stage 2; here it starts there.""",
}
"""What the runs do not show, although a verdict may sound like it."""
