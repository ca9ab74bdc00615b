"""Work that spans several model calls."""
