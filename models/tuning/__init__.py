"""Learning inside a pack's own graphs: context vectors and low-rank adapters, by PyTorch, from the ONNX files alone."""
