"""`python sharing_worker.py DATA QUEUE [STUCK]`: share a ranking, and print it; never get through with STUCK."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import zoo
from zoo.choose import queue, rank

queue.BEAT_S, queue.STALE_S, queue.LOOK_S = 0.05, 0.5, 0.05
data, folder, *stuck = sys.argv[1:]
attempt = rank._Trier.attempt


def slowly(self: Any, candidate: Any, part: Any) -> Any:
    while candidate.weights.name in stuck:
        time.sleep(0.1)
    return attempt(self, candidate, part)


rank._Trier.attempt = slowly
print(json.dumps(zoo.rank("tiny.*", data, queue=folder).as_json()))
