"""Dataset files other tools open: one module per format, all listed in `table`."""
