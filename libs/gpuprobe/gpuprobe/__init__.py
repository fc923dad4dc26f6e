"""GPU health kernels that name the broken part, usable without the mesh.

Start with :func:`gpuprobe.levels.run`, or ``python -m gpuprobe --level quick``. Today there is one
kernel, the exact-integer matrix product of :mod:`gpuprobe.gemm`; memory, bandwidth and links are
not tested yet, and only the level ``quick`` exists.
"""
