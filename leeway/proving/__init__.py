"""What a run promises, shown: from its ledger alone, or against a plain loop."""
