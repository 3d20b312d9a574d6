"""The presets as they ship: TOML files, and the small model and prompts of ``tiny``."""
