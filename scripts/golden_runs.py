"""Small runs whose results are known to the last bit: does a change of the code change what it computes?

    python scripts/golden_runs.py                      # compare with tests/golden/runs.json
    python scripts/golden_runs.py --jobs 2             # the same, two runs at once
    python scripts/golden_runs.py --only tree control  # some of them
    python scripts/golden_runs.py --record             # write tests/golden/runs.json anew

The runs are in tests/golden/runs.py.
"""

import os
import sys
from pathlib import Path

# Before NumPy and torch read them: sums are added in another order where several threads share them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

# This checkout's code is tested, also where another checkout is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "golden"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "envs"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs import main

if __name__ == "__main__":
    sys.exit(main())
