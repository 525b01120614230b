"""The only code that touches bytes: storage backends. Knows nothing of Ray, SQL or HTTP."""
