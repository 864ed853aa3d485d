"""Making smaller models: which type each tensor gets, and how its weights become that type's blocks."""

from localllm.quantize.imatrix import Imatrix, ImatrixEntry, read_imatrix, write_imatrix

__all__ = ["Imatrix", "ImatrixEntry", "read_imatrix", "write_imatrix"]
