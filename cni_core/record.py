"""What is worth telling of one verb besides its result: its network, its code, its stages."""

import time


class Record:
    """Filled while a verb runs. `code` is 0 for success; stages are named when they end."""

    def __init__(self) -> None:
        self.network = ""
        self.code = 0
        self._started = time.perf_counter()
        self._ends: list[tuple[str, float]] = []

    def ended(self, stage: str) -> None:
        """Note that a stage is over, and the next begins."""
        self._ends.append((stage, time.perf_counter()))

    def stages(self) -> tuple[tuple[str, float], ...]:
        """Return each stage with its seconds."""
        starts = [self._started, *(moment for _stage, moment in self._ends)]
        return tuple((stage, end - start) for (stage, end), start in zip(self._ends, starts, strict=False))
