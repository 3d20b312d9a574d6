"""What is trained, and when: prompts, admission, staleness, collection in ticket order."""
