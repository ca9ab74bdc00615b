"""Clicks and boxes as a person would give them, made from ground truth."""
