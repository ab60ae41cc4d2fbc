// Loaded before Azurite (node -r): ends it cleanly when the process that holds the other end of stdin is gone.
process.stdin.on("end", () => process.kill(process.pid, "SIGTERM")).resume();
