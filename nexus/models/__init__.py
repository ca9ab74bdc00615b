"""Models, the table of their weights, and how images enter and masks leave them."""
