"""Runs in the trackers that people already use. A process of its own follows the run's folder and feeds one tracker, so
nothing of a tracker is inside the learner."""
