"""The commands of `radserve evaluate`: each module has `register(app)` and does no statistics of its own."""
