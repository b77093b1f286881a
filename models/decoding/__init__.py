"""Choosing tokens: search strategies, constraints and the joining of reports, without a model and without radserve."""
