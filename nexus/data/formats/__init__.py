"""Dataset files other tools open, all listed in `writers`."""
