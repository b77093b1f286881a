"""The evaluation report: all seventeen indicators of the survey's Table 2, measured or plainly not measured."""
