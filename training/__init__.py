"""Keras training for both classifiers: ``python -m training {split,fit,evaluate,export}``."""
