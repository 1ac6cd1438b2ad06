"""``python -m palm_torch`` is ``palm-torch``."""

import sys

from palm_torch.cli import main

if __name__ == "__main__":
    sys.exit(main())
