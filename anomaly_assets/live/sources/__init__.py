"""Where live readings come from, other than requests: brokers, streams, folders."""
