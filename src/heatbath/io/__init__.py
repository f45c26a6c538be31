"""heatbath.io"""
