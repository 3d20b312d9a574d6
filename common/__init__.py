"""What the roles share: wire types, codec, keys, Redis, weights, configuration, metrics, ledger. Imports no role."""
