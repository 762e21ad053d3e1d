"""Both ends of the protocol with the supervisor inside a machine."""
