"""Run under torchrun: the learner's own command, with {rank} in its arguments and in HOME filled in, as on nodes that
have a disk each."""

import os
import sys

rank = os.environ["RANK"]
sys.argv = ["learner", *(word.replace("{rank}", rank) for word in sys.argv[1:])]
os.environ["HOME"] = os.environ["HOME"].replace("{rank}", rank)

from leeway_rl.learner.__main__ import main  # noqa: E402

sys.exit(main())
