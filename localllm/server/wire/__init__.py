"""The shapes of requests and answers, one module for each API, and the mapping between them and `localllm.llm`.

Nothing here does input or output.
"""
