"""From labelled images of a site to a pack derived from another one: heads, calibration, choice of what to label."""
