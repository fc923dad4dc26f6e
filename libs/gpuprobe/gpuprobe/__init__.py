"""GPU health kernels that name the broken part, usable without the mesh."""
