"""The drop-ins for the SDK's spans and encoder."""
