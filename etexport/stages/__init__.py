"""What a verb or a notebook asks for: several rooms in order, as functions. They print nothing but what takes long; the
callers do."""
