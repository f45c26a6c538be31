"""heatbath.samplers"""
