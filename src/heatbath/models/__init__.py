"""heatbath.models"""
