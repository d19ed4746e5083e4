"""Figures and tables of results; the only place that draws."""
