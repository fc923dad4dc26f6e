"""Who may use the cloud: organizations, projects, keys, nodes.

Answers the asks of ``mesh_contracts.identity``, tells what was admitted, issued, revoked and
enrolled, writes the bucket ``access``, and says to the bus which node may connect with which
rights. Start with :mod:`identity.domain`, then :mod:`identity.app`.
"""
