"""Values: what is asked for, what comes back, what may be wrong."""
