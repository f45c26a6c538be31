"""heatbath.kernels"""
