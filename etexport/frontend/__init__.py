"""Model script -> `model.pte` and `model.npz`: capture, decomposition, lowering. The only place that imports torch."""

from etexport.frontend.exporting import bisect, bisect_network, export, export_many, export_network, train

__all__ = ["bisect", "bisect_network", "export", "export_many", "export_network", "train"]
