"""Providers of grid intensity: today one table of dated yearly factors, each with its provenance."""
