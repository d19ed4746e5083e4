"""``python -m msdtool`` is the same program as ``msdtool``."""

from msdtool.cli import main

if __name__ == "__main__":
    main()
