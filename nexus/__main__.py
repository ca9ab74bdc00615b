"""`python -m nexus` is the command `nexus`, for launchers that start modules."""

from nexus.cli.main import main

if __name__ == "__main__":
    main()
