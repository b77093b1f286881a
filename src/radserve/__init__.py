"""radserve: medical imaging inference on NVIDIA Triton."""
