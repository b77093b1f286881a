"""The gRPC services: protobuf in and out; nothing of protobuf goes further in."""
