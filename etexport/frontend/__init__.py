"""Model script -> `model.pte` and `model.npz`: capture, decomposition, lowering. The only place that imports torch."""

import atexit
import gc

from etexport.frontend.collector import nothing_collected

with nothing_collected():
    from etexport.frontend.exporting import bisect, bisect_network, export, export_many, export_network, train
atexit.register(gc.freeze)  # else the process walks torch once more as it ends

__all__ = ["bisect", "bisect_network", "export", "export_many", "export_network", "train"]
