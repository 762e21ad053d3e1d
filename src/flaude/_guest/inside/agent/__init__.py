"""The agent and other processes in the machine."""
