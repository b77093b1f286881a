"""The stages between pixels and a result: preprocess, classify, report, the study as a whole."""
