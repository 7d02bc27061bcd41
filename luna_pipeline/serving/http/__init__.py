"""HTTP front of the service: uploads, states and results of diagnoses. It enqueues; workers diagnose."""
