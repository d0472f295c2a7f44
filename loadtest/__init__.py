"""Load tests and benchmarks: what serving costs on top of the network, measured, and how it behaves when pressed."""
