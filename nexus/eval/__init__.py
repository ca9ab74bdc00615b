"""Measuring models: metrics, protocols, runs over datasets and their reports."""
