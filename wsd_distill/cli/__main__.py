"""``python -m wsd_distill.cli``: the command ``wsd`` without its installation."""

import sys

from . import main

sys.exit(main())
