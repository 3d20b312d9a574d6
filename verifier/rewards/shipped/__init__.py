"""Rewards that ship: each function names its source. docs/rewards.md lists them."""
