"""Boards from the host's side: launch, the serial link, runs, faults. The only room with pyserial and simulators."""

from etexport.device.run import Run, Sample, record, run

__all__ = ["Run", "Sample", "record", "run"]
