"""`flaude doctor --live`: what Fly does, measured with one cheap machine and compared with what flaude assumes."""
