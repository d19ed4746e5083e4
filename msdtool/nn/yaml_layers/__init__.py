"""Layers by name and arguments, as `stem`, `head` and the hidden layers take them from YAML."""
