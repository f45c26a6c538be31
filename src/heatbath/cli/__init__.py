"""heatbath.cli"""
