"""The device beside the patient."""
