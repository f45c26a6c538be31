"""How distributions over phase space evolve, and how they are observed: transport, collisions, streams of velocities."""
