"""Prompt sets: versioned wordings for a pack's labels and further tasks, rendered and linted."""
