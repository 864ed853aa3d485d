"""`python -m localllm` is `localllm`."""

import sys

from localllm.cli import main

sys.exit(main())
