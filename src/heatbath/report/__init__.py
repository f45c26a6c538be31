"""heatbath.report"""
