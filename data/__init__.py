"""Raw rows in, training rows out: sources, steps, recipe, card. See docs/data.md."""
