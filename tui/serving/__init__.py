"""The server as the interface sees it: starting, watching, asking and stopping `localllm serve`."""
