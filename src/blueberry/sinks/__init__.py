"""Other places where runs can be looked at: W&B, TensorBoard, MLflow. The store stays the truth; these are copies."""
