"""`python -m worker` is `penstock`."""

from worker.cli import main

if __name__ == "__main__":
    main()
