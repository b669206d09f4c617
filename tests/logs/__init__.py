"""Ids in log records: the standard library, structlog, loguru, access lines."""
