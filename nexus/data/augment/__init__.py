"""Augmentation of images together with what points at things in them."""
