"""``python -m memguard``: the command line where its script is not on the path."""

from memguard.cli.main import main

if __name__ == "__main__":
    main()
