"""The HTTP server: OpenAI's, Anthropic's, Ollama's and llama-server's APIs over `localllm.llm`."""
