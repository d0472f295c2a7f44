"""What Triton runs for this model: the SDK's own preprocessing, as the installed package densescan has it."""

from densescan.serving.decoder import TritonPythonModel as TritonPythonModel
