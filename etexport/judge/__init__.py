"""The one verdict on a run: are the outputs PyTorch's, and is every operator right?"""
