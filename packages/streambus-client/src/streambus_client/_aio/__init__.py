"""The async shell: anyio, so that it runs on asyncio, uvloop and trio, and on a simulated loop."""
