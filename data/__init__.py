"""Makes training rows of raw rows: sources, data steps, recipe, card. See docs/how-to/prepare-rows.md."""
