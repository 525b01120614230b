"""User messages: why an asynchronous request failed, in words for the one who asked."""
