"""What every service stands on: the roads of facts and asks, buckets, journal, store, telemetry.

Start with :mod:`meshkit.service`. Settings come from :mod:`meshkit.config`, faults are in
:mod:`meshkit.errors`, the doubles we ship to ourselves in :mod:`meshkit.testing`.
"""
