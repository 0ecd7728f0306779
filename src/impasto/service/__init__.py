"""Impasto as a service: runs that are accepted, queued, carried out and accounted for."""
