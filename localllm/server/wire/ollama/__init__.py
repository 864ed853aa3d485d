"""The Ollama API: its requests and answers. Durations are in nanoseconds, streams are lines of JSON."""
