"""Proves what a run promises: from its ledger alone, or against a plain loop."""
