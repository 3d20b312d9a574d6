"""``leeway watch``: a page in the browser of a run that is under way or finished. One reader looks at the run for all
who look at the page."""
