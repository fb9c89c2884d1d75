"""`agrenting demo`: a real server and real agents, each a process of its own, do a deal over public interfaces."""

from agrenting.demo.running import run

__all__ = ["run"]
