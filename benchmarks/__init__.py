"""Speed and memory, measured under one contract; see CONTRIBUTING.md."""
