"""Other services of the OpenStack cloud that an instance may be part of, asked over HTTP."""
