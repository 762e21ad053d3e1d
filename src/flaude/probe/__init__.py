"""`flaude doctor --live`: what Fly does, measured with one cheap machine, beside what flaude assumes of it."""
