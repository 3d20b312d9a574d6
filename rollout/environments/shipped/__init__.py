"""Environments that ship."""
