"""``python -m anomaly_assets`` is the command line."""

from anomaly_assets.cli import main

if __name__ == "__main__":
    main()
