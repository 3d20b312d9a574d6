"""Verifier role: takes responses, gives each a verdict, hands the group to the learner."""
