"""heatbath.targets"""
