"""The classifier's step on a GPU: the kernels with their autograd, recorded as CUDA graphs."""
