"""heatbath.targets.molecules"""
