"""The Tiltfile and the files under deploy/, checked without Tilt, Grafana or a collector."""
