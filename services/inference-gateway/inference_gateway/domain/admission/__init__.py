"""Whether a request fits what its organisation, project, key and endpoint may still take: from memory.

``Admission`` is where to start. ``estimate`` bounds a request from above, ``gcra`` and ``money`` keep
what is left, ``scope`` what is known of one scope, ``held`` what one request holds until it is settled,
``refusals`` says no. A request is counted at its bound before it goes anywhere, and settled once, at
what it took.
"""

from inference_gateway.domain.admission.admission import Admission
from inference_gateway.domain.admission.estimate import Estimate, upper_bound
from inference_gateway.domain.admission.held import Held

__all__ = ["Admission", "Estimate", "Held", "upper_bound"]
