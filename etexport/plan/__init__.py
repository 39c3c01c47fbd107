"""Memory planning: buffers with live ranges in, addresses with a lower bound out (docs/memory.md)."""

from etexport.plan.bounds import Peak, peak
from etexport.plan.portfolio import plan
from etexport.plan.problem import Buffer, Overlap, Place, Problem, Region, Solution
from etexport.plan.validate import validate

__all__ = ["Buffer", "Overlap", "Peak", "Place", "Problem", "Region", "Solution", "peak", "plan", "validate"]
