"""A plan's steps on the processes of a Dask cluster, each as soon as what it needs is there."""

from __future__ import annotations

import contextlib
import html
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from etexport.errors import DeviceLostError, EtError, ModelError, ToolMissingError
from etexport.fleet.keys import code_key, script_key
from etexport.fleet.plan import Job, Plan, jobs
from etexport.fleet.steps import Row, Share, evaluate, export, failed, firmware, judge
from etexport.fleet.table import write_table
from etexport.report.pareto import pareto

Progress = Callable[[int, int], None]
LOST = 3
"""Workers that may be lost over one step before it is called the step's fault."""


@dataclass(frozen=True)
class Swept:
    """What a sweep gave: the rows in the plan's order, and the folder with `table.csv` and `sweep.html`. Every build's
    folder is below it, `BOARD/MODEL-QUANTIZATION`, with a report."""

    rows: tuple[Row, ...]
    folder: Path

    def dataframe(self) -> Any:
        """The rows as a pandas.DataFrame; ToolMissingError without pandas."""
        try:
            import pandas
        except ImportError:
            raise ToolMissingError("pandas is not installed", hint="pip install pandas; `rows` has the same") from None
        return pandas.DataFrame(map(asdict, self.rows))

    def _repr_html_(self) -> str:
        page = (self.folder / "sweep.html").read_text(encoding="utf-8")
        return f'<iframe srcdoc="{html.escape(page)}" style="width: 100%; height: 70vh; border: 0"></iframe>'


def sweep(
    plan: Plan, folder: Path, *, scheduler: str | None = None, workers: int | None = None,
    progress: Progress | None = None,
) -> Swept:  # fmt: skip
    """Every row of the plan, below `folder`; what is there from another time, of the same content, is not done again.

    Without `scheduler`, the address of a Dask cluster's, there are `workers` processes on this machine, as many as it
    has cores. Those of a cluster must see the models and the folder under the same paths. `progress(done, of)` is
    called after each step; `of` grows while it is found out what there is to do. A row that cannot be made says so in
    `error`, and the others go on.
    """
    asked, out = jobs(plan), folder.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with _client(scheduler, workers) as client:
        rows = _Sweep(plan, asked, out, client, progress).run()
    write_table(out, rows)
    (out / "sweep.html").write_text(pareto([asdict(row) for row in rows]), encoding="utf-8")
    return Swept(rows, folder)


class _Sweep:
    def __init__(self, plan: Plan, asked: tuple[Job, ...], out: Path, client: Any, progress: Progress | None) -> None:
        self._plan, self._jobs, self._out, self._client, self._progress = plan, asked, out, client, progress
        self._rows: dict[Job, Row] = {}
        self._left: Counter[Job] = Counter()
        self._asked: dict[Any, tuple[Callable[[Any], None], list[Job]]] = {}
        """What is to be done with a step's result, and the rows that it is for."""
        self._code = code_key()

    def run(self) -> tuple[Row, ...]:
        from distributed import as_completed

        self._came = as_completed(loop=self._client.loop)
        programs: dict[Path, list[Job]] = {}
        for job in self._jobs:
            programs.setdefault(job.program, []).append(job)
        for same in programs.values():
            self._ask(partial(self._exported, same), same, export, same[0], script_key(same[0].model), self._code)
        for done, future in enumerate(self._came, 1):
            then, whose = self._asked.pop(future)
            if future.cancelled():
                raise DeviceLostError("the cluster is gone", where=self._client.scheduler.address)
            error = future.exception()
            if error is None:
                then(future.result())
            else:
                for job in whose:
                    self._row(job, failed(job, _said(error)))
            if self._progress is not None:
                self._progress(done, done + len(self._asked))
        return tuple(self._rows[job] for job in self._jobs)

    def _ask(self, then: Callable[[Any], None], whose: list[Job], step: Callable[..., Any], *given: Any) -> None:
        future = self._client.submit(step, self._out, *given, pure=False)
        self._asked[future] = then, whose
        self._came.add(future)

    def _exported(self, same: list[Job], _: str) -> None:
        for job in same:
            given = job, self._plan.samples, self._plan.share, self._code
            self._ask(partial(self._built, job), [job], firmware, *given)

    def _built(self, job: Job, shares: tuple[Share, ...]) -> None:
        self._left[job] = len(shares)
        for share in shares:
            self._ask(partial(self._evaluated, job, shares), [job], evaluate, job, share)

    def _evaluated(self, job: Job, shares: tuple[Share, ...], _: None) -> None:
        self._left[job] -= 1
        if not self._left[job] and job not in self._rows:
            self._ask(partial(self._row, job), [job], judge, job, shares, self._code)

    def _row(self, job: Job, row: Row) -> None:
        self._rows[job] = row
        write_table(self._out, [self._rows[one] for one in self._jobs if one in self._rows])


def _said(error: BaseException) -> str:
    """The user's mistake, or that workers were lost over the step; a mistake of ours goes its way."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return f"{LOST + 1} workers were lost over one step of it"
    if not isinstance(error, EtError):
        raise error
    return str(error)


@contextlib.contextmanager
def _client(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ToolMissingError("dask is not installed", hint="pip install 'etexport[sweep]'") from None
    with dask.config.set(_SETTINGS), contextlib.ExitStack() as opened:
        if scheduler is None:
            count = workers or len(os.sched_getaffinity(0))
            at: Any = opened.enter_context(
                LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None, silence_logs=50)
            )
        else:
            at = scheduler
        try:
            client = opened.enter_context(Client(at, timeout="10s", set_as_default=False))
        except (OSError, ValueError) as error:
            hint = "`dask scheduler` says its address"
            raise DeviceLostError(f"no scheduler answers: {error}", where=str(at), hint=hint) from None
        found: Mapping[str, Mapping[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
        if many := [name for name, one in found.items() if one["nthreads"] != 1]:
            raise ModelError(f"several threads: {', '.join(many)}", where=str(at), hint="dask worker --nthreads 1")
        yield client


_SETTINGS = {
    "distributed.scheduler.allowed-failures": LOST,
    "distributed.worker.daemon": False,  # a worker starts compilers and simulators
}
