"""heatbath.experiments"""
