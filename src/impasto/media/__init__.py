"""The only place that opens, decodes, encodes and joins media files."""
