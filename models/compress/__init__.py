"""Smaller and faster variants of a pack, each held to the original by a gate. Needs the train extra."""
