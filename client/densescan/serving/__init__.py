"""What runs inside the server rather than beside its callers: the model that decodes files."""
