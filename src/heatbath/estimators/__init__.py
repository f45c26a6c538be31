"""heatbath.estimators"""
