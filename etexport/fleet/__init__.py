"""Many builds and many boards at once: `sweep`, on the processes of this machine or those of a Dask cluster."""

from etexport.fleet.plan import Plan, read_plan
from etexport.fleet.sweep import Swept, sweep

__all__ = ["Plan", "Swept", "read_plan", "sweep"]
