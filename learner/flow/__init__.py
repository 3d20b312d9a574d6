"""What is trained, and when: prompts, issuing, staleness, and taking in what comes back."""
