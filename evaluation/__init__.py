"""How good a model is: ROC inference, rates, reader studies, calibration, fairness, robustness and report text.

A library of pure functions over arrays and tables of anybody's scores; `radserve evaluate` is a thin layer over it.
Everywhere: float64, and a higher score means more likely positive. Nothing turns a score round by itself.
"""
