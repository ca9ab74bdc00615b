"""Weight files: reading them safely, and how they get onto this machine whole."""
