"""GPU health kernels that name the broken part, usable without the mesh.

Start with :func:`gpuprobe.levels.run`, or ``python -m gpuprobe --level quick``. The kinds of check
stand in :mod:`gpuprobe.probes`; each runs its kernels (``kernels/*.cu``, with a NumPy reference
each in :mod:`gpuprobe.reference`) on a :class:`gpuprobe.backend.Backend`, in slices, and returns a
:class:`gpuprobe.verdict.Finding`; :mod:`gpuprobe.probe` is the frame around it.
"""
