"""The truth benchmark: simulated studies with a known answer, judged by the code that judges real ones."""
