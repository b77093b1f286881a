"""The application: settings, the composition root, the gRPC services and the command line."""
