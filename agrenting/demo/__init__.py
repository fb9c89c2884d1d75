"""`agrenting demo`: a real server and real agents, each a process of its own, do a deal over public interfaces.

Nothing is imported here: an agent's process loads what it needs, and not what the parent does.
"""
