"""Rewards that ship: each function names its source. docs/reference/rewards.md lists them."""
