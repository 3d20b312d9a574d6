"""What the roles share: wire types, codec, keys, Redis, weights, configuration, metrics, ledger. It imports no role."""
