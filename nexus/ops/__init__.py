"""Pure functions on boxes, points and masks; no weights, no state."""
