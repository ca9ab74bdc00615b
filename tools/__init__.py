"""Programs for people who work on Nexus; not part of the package."""
