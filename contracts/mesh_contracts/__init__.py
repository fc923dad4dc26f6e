"""The contracts: every fact, ask, bucket value and subject of Compute Mesh, as types.

Start with :mod:`mesh_contracts.fact` and :mod:`mesh_contracts.streams`; nothing here waits,
draws (but ``units.new_id``, for doors) or tells time.
"""
