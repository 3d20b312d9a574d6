"""The verifier role: it takes responses, gives each a verdict, and hands the group to the learner."""
