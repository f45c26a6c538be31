"""Plain networks: functions of vectors, with no notion of density."""
