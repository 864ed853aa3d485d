"""The terminal UI: chat, and everything else the app can do, without leaving the terminal."""
