"""``python -m luna_pipeline.cli COMMAND``."""

from luna_pipeline.cli import main

if __name__ == "__main__":
    main()
