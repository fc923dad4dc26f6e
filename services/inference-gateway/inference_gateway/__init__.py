"""The public HTTP door: admission, routing, streaming, metering."""
